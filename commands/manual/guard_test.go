package manual

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// TestGuard: from --up or --route on, the flow of a connection does not leave in clear
// until it is unrouted.
func TestGuard(t *testing.T) {
	const hers = "guard 10.1.0.0/16 10.2.0.0/16 and back but 10.0.0.2\n"
	const kept = hers + "route 10.2.0.0/16 unreachable\n"
	passthrough := strings.ReplaceAll(ends, "conn t\n", "conn t\n type=passthrough\n")
	drop := strings.ReplaceAll(ends, "conn t\n", "conn t\n type=drop\n")
	tests := []struct {
		name, conf, lines, want string
	}{
		{"up", tunnel, "--up t", kept},
		{"down", tunnel, "--up t;--down t", kept},
		{"up again", tunnel, "--up t;--down t;--up t", kept},
		{"down and unrouted", tunnel, "--up t;--down --unroute t", ""},
		{"down, then unrouted", tunnel, "--up t;--down t;--unroute t", ""},
		{"routed", tunnel, "--route t", kept},
		{"routed and up", tunnel, "--route t;--up t", kept},
		{"unrouted while it is up", tunnel, "--up t;--unroute t", ""},
		{"what is sent is dropped", drop, "--up t", "guard 10.1.0.0/16 10.2.0.0/16\nroute 10.2.0.0/16 unreachable\n"},
		{"what is sent passes", passthrough, "--up t", ""},
		{"everything, the peer among it", strings.ReplaceAll(tunnel, "rightsubnet=10.2.0.0/16", "rightsubnet=0.0.0.0/0"), "--up t",
			"guard 10.1.0.0/16 0.0.0.0/0 and back but 10.0.0.2\nroute 128.0.0.0/1 unreachable\n"},
		{"the peer in its own network", strings.ReplaceAll(tunnel, "rightsubnet=10.2.0.0/16", "rightsubnet=10.0.0.0/24"), "--up t",
			"guard 10.1.0.0/16 10.0.0.0/24 and back but 10.0.0.2\n"},
		{"routes made by a script", tunnel + " leftupdown=true\n", "--up t", hers},
		{"unrouted by a script", tunnel + " leftupdown=true\n", "--up t;--down --unroute t", ""},
	}
	for _, tt := range tests {
		b := newBench(t, tt.conf)
		for line := range strings.SplitSeq(tt.lines, ";") {
			if r := b.run(line); r.Status != 0 {
				t.Errorf("%s: %s: %s", tt.name, line, r.Err)
			}
		}
		if got := b.guarded(); got != tt.want {
			t.Errorf("%s: there is\n%swant\n%s", tt.name, got, tt.want)
		}
	}
}

// TestGuardScript: if the script that removes the routes fails, the flow stays closed.
func TestGuardScript(t *testing.T) {
	for _, line := range []string{"--unroute t", "--down --unroute t"} {
		b := newBench(t, tunnel+" leftupdown=\"test $PLUTO_VERB != unroute-client\"\n")
		if r := b.run("--up t"); r.Status != 0 {
			t.Fatal(r.Err)
		}
		closed := b.guarded()
		if r := b.run(line); r.Status != 1 || !strings.Contains(r.Err, "unroute-client") {
			t.Errorf("%s: %+v", line, r)
		}
		if got := b.guarded(); got != closed || closed == "" {
			t.Errorf("%s: there is\n%swant\n%s", line, got, closed)
		}
	}
}

// TestGuardPeer: a network gets no unreachable route while it contains the far end of
// an SA. The route is removed when a connection to such an end comes up.
func TestGuardPeer(t *testing.T) {
	inner := "conn inner\n left=10.0.0.1\n leftsubnet=10.7.0.0/16\n leftnexthop=10.0.0.254\n right=10.2.0.9\n rightsubnet=10.8.0.0/16\n spibase=0x300\n esp=3des-md5-96\n " + keys3des
	b := newBench(t, tunnel+inner)
	b.run("--up t")
	if r := b.run("--up inner"); r.Status != 0 {
		t.Fatal(r.Err)
	}
	const both = "guard 10.1.0.0/16 10.2.0.0/16 and back but 10.0.0.2\nguard 10.7.0.0/16 10.8.0.0/16 and back but 10.2.0.9\nroute 10.8.0.0/16 unreachable\n"
	if b.guarded() != both {
		t.Errorf("a peer in the network of another connection: there is\n%swant\n%s", b.guarded(), both)
	}
	b = newBench(t, tunnel+inner)
	b.run("--up inner")
	b.run("--up t")
	if b.guarded() != both {
		t.Errorf("a network that holds the peer of another connection: there is\n%swant\n%s", b.guarded(), both)
	}
}

// TestGuardNone: without a packet filter only the routes guard, and a note reports
// that.
func TestGuardNone(t *testing.T) {
	b := newBench(t, tunnel)
	b.model.noFilter = true
	if r := b.run("--up t"); r.Status != 0 || !strings.Contains(r.Err, "note: conn t: this kernel has no usable nftables: without it, routes alone keep 10.2.0.0/16 from leaving in clear") {
		t.Errorf("--up: status %d, %q", r.Status, r.Err)
	}
	if got := b.guarded(); got != "route 10.2.0.0/16 unreachable\n" {
		t.Errorf("there is\n%s", got)
	}
	if r := b.run("--down --unroute t"); r.Status != 0 || b.guarded() != "" {
		t.Errorf("--down --unroute: status %d, %q; there is\n%s", r.Status, r.Err, b.guarded())
	}
}

// TestGuardTransport: if packets reach their eroute without a route, the flow is
// guarded until the eroute is removed.
func TestGuardTransport(t *testing.T) {
	b := newBench(t, hosts+"spi=0x200\n esp=3des-md5-96\n "+keys3des)
	b.model.lacks = klips.CapTransportDevice
	const kept = "guard 10.0.0.1/32 10.0.0.2/32 and back but 10.0.0.2\n"
	for _, tt := range []struct{ line, want string }{
		{"--up t", kept}, {"--unroute t", kept}, {"--down t", kept}, {"--unroute t", ""}, {"--up t", kept}, {"--down --unroute t", ""},
	} {
		if r := b.run(tt.line); r.Status != 0 || b.guarded() != tt.want {
			t.Errorf("%s: status %d, %s; there is\n%swant\n%s", tt.line, r.Status, r.Err, b.guarded(), tt.want)
		}
	}
}

package manual

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

var ctx = context.Background()

// family replaces the IPv4 addresses of a text by IPv6 addresses if is6 is set.
func family(text string, is6 bool) string {
	if !is6 {
		return text
	}
	return strings.NewReplacer(
		"10.0.0.", "2001:db8::", "10.1.0.0/16", "fd01::/64", "10.2.0.0/16", "fd02::/64", "10.3.0.0/16", "fd03::/64", "10.5.0.0/16", "fd05::/64",
	).Replace(text)
}

// several is a file whose connections conflict with each other.
const several = `conn %default
 left=10.0.0.1
 leftsubnet=10.1.0.0/16
 esp=3des-md5-96
 espreplay_window=64
 ` + keys3des + ` spi=0x300

conn one
 right=10.0.0.2
 rightsubnet=10.2.0.0/16
conn two # the same SPI, another peer
 right=10.0.0.3
 rightsubnet=10.3.0.0/16
conn flow # the same subnets, another peer and SPI
 right=10.0.0.3
 rightsubnet=10.2.0.0/16
 spi=0x310
conn twin # the same SAs for another subnet
 right=10.0.0.2
 rightsubnet=10.3.0.0/16
conn side # the same route
 leftsubnet=10.5.0.0/16
 right=10.0.0.2
 rightsubnet=10.2.0.0/16
 spi=0x320
conn sink
 right=10.0.0.2
 rightsubnet=10.2.0.0/16
 type=drop
 esp=
 spi=
`

// TestOthers: no operation changes objects of another connection.
func TestOthers(t *testing.T) {
	tests := []struct {
		up   string // connections that are up
		line string
		// status and message of the operation; the message must contain each of the
		// words. The state stays the same, unless changes is set.
		status  int
		words   string
		changes bool
	}{
		{up: "one", line: "--up one", status: 1, words: "conn one: it is up already: there is tun0x300@10.0.0.2;"},
		{up: "one", line: "--up two", status: 1, words: "conn two: not brought up: there is tun0x300@10.0.0.1 already, and its source is 10.0.0.2, not 10.0.0.3 (it can be of conn one); use another SPI"},
		{up: "one", line: "--up flow", status: 1, words: "conn flow: not brought up: there is the eroute 10.1.0.0/16 -> 10.2.0.0/16 already, and it leads to tun0x300@10.0.0.2 (it can be of conn one)"},
		{up: "one", line: "--up twin", status: 1, words: "not brought up: there is tun0x300@10.0.0.2 already, and the eroute 10.1.0.0/16 -> 10.2.0.0/16 leads to it (it can be of conn one)"},
		{up: "one", line: "--up sink", status: 1, words: "not brought up: there is the eroute 10.1.0.0/16 -> 10.2.0.0/16 already, and it leads to tun0x300@10.0.0.2 (it can be of conn one)"},
		{up: "sink", line: "--up one", status: 1, words: "it leads to %drop (it can be of conn sink)"},
		{up: "sink", line: "--up sink", status: 1, words: "it is up already: there is its eroute to %drop"},
		{up: "one", line: "--up side", changes: true},

		{up: "one", line: "--down two", status: 1, words: "conn two: it is not up, nothing is changed: there is tun0x300@10.0.0.1, but its source is 10.0.0.2, not 10.0.0.3 (it can be of conn one)"},
		{up: "one", line: "--down flow", status: 1, words: "it is not up, nothing is changed: there is the eroute 10.1.0.0/16 -> 10.2.0.0/16, but it leads to tun0x300@10.0.0.2 (it can be of conn one)"},
		{up: "one", line: "--down twin", status: 1, words: "it is not up, nothing is changed: there is tun0x300@10.0.0.2, but the eroute 10.1.0.0/16 -> 10.2.0.0/16 leads to it (it can be of conn one)"},
		{up: "one", line: "--down sink", status: 1, words: "it is not up, nothing is changed: there is the eroute 10.1.0.0/16 -> 10.2.0.0/16, but it leads to tun0x300@10.0.0.2"},
		{up: "one", line: "--down side", status: 0, words: "note: conn side: it was not up"},
		{up: "sink", line: "--down one", status: 1, words: "but it leads to %drop (it can be of conn sink)"},
		{up: "", line: "--down one", status: 0, words: "note: conn one: it was not up"},

		{up: "one", line: "--route side"},
		{up: "one", line: "--route one"},
		{up: "one side", line: "--unroute side", status: 1, words: "conn side: not unrouted: the eroute 10.1.0.0/16 -> 10.2.0.0/16 to tun0x300@10.0.0.2 (it can be of conn one) needs the route 10.2.0.0/16 dev ipsec0, too"},
		{up: "one", line: "--unroute flow", status: 1, words: "conn flow: not unrouted: the eroute 10.1.0.0/16 -> 10.2.0.0/16 to tun0x300@10.0.0.2 (it can be of conn one) needs the route"},
		{up: "one", line: "--unroute two", words: "note: conn two: it was not routed"},
		{up: "one", line: "--unroute one", changes: true},
		{up: "sink", line: "--unroute one", status: 1, words: "not unrouted: the eroute 10.1.0.0/16 -> 10.2.0.0/16 to %drop (it can be of conn sink) needs the route"},
	}
	for _, is6 := range []bool{false, true} {
		for _, tt := range tests {
			b := newBench(t, family(several, is6))
			for _, name := range strings.Fields(tt.up) {
				if r := b.run("--up " + name); r.Status != 0 || r.Err != "" {
					t.Fatalf("--up %s: status %d, %s", name, r.Status, r.Err)
				}
			}
			before := b.state()
			r := b.run(tt.line)
			if want := family(tt.words, is6); r.Status != tt.status || !strings.Contains(r.Err, want) || want == "" && r.Err != "" || r.Out != "" {
				t.Errorf("%s up, %s: status %d, %swant %d, %s", tt.up, tt.line, r.Status, r.Err, tt.status, want)
			}
			if changed := b.state() != before; changed != tt.changes {
				t.Errorf("%s up, %s: state is\n%swas\n%s", tt.up, tt.line, b.state(), before)
			}
			for _, name := range strings.Fields(tt.up) {
				if r := b.run("--down " + name); r.Status != 0 {
					t.Errorf("%s up, %s: --down %s afterwards: status %d, %s", tt.up, tt.line, name, r.Status, r.Err)
				}
			}
		}
	}
}

// TestPartly: if a connection is partly up, --down removes its own objects and reports
// the missing ones; --up is refused.
func TestPartly(t *testing.T) {
	sel := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	in, out := "tun0x201@10.0.0.1 esp0x203@10.0.0.1\n", "tun0x200@10.0.0.2 esp0x202@10.0.0.2\n"
	tests := []struct {
		name string
		cut  func(m *model)
		up   string // error of --up
		note string // note of --down; empty: the error that it is not up
		left string // state afterwards
	}{
		{"no eroute", func(m *model) { delete(m.eroutes, sel) },
			"it is partly up: there is tun0x200@10.0.0.2, but not the eroute 10.1.0.0/16 -> 10.2.0.0/16; take it down first with --down",
			"it was partly up; what was missing: the eroute 10.1.0.0/16 -> 10.2.0.0/16\n", ""},
		{"no SAs to here", func(m *model) { m.DeleteSA(ctx, m.groups[1][0]) },
			"it is partly up: there is tun0x200@10.0.0.2, but not tun0x201@10.0.0.1;",
			"it was partly up; what was missing: tun0x201@10.0.0.1, esp0x203@10.0.0.1\n", ""},
		{"no SAs to the peer", func(m *model) { m.DeleteSA(ctx, m.groups[0][0]) },
			"it is partly up: there is tun0x201@10.0.0.1, but not tun0x200@10.0.0.2;",
			"it was partly up; what was missing: tun0x200@10.0.0.2, esp0x202@10.0.0.2\n", ""},
		{"the eroute alone", func(m *model) { m.groups, m.policies = nil, nil },
			"it is partly up: there is the eroute 10.1.0.0/16 -> 10.2.0.0/16, but not tun0x200@10.0.0.2;",
			"it was partly up; what was missing: tun0x200@10.0.0.2, esp0x202@10.0.0.2, tun0x201@10.0.0.1, esp0x203@10.0.0.1\n", ""},
		{"not grouped", func(m *model) {
			delete(m.eroutes, sel)
			m.Ungroup(ctx, m.groups[0][0])
			m.Ungroup(ctx, m.groups[0][0])
			clear(m.policies)
		}, "it is partly up: there is tun0x200@10.0.0.2, but not the eroute", "it was partly up; what was missing: the eroute 10.1.0.0/16 -> 10.2.0.0/16\n", ""},
		{"no policy", func(m *model) { clear(m.policies) }, "it is up already", "", ""},
		{"another eroute", func(m *model) { m.eroutes[sel] = klips.Magic(klips.SPIDrop) },
			"not brought up: there is the eroute 10.1.0.0/16 -> 10.2.0.0/16 already, and it leads to %drop; these packets have one eroute only",
			"the eroute 10.1.0.0/16 -> 10.2.0.0/16 stays: it leads to %drop\n", "eroute 10.1.0.0/16 10.2.0.0/16 %drop\n"},
		{"another policy", func(m *model) {
			for id, s := range m.policies {
				s.Dst = netip.MustParsePrefix("10.9.0.0/16")
				m.policies[id] = s
			}
		}, "not brought up: there is tun0x201@10.0.0.1 already, and its inbound policy is 10.2.0.0/16 -> 10.9.0.0/16; use another SPI",
			"tun0x201@10.0.0.1 stays: its inbound policy is 10.2.0.0/16 -> 10.9.0.0/16\n", "policy tun0x201@10.0.0.1 10.2.0.0/16 10.9.0.0/16\n" + in},
		{"its SA is a further one of another eroute", func(m *model) {
			other := klips.Selector{Src: sel.Src, Dst: netip.MustParsePrefix("10.9.0.0/16")}
			m.also = map[klips.Selector][]klips.SAID{other: {m.eroutes[sel]}}
			m.eroutes[other] = klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x999, Proto: klips.ProtoTun}
			delete(m.eroutes, sel)
		}, "not brought up: there is tun0x200@10.0.0.2 already, and the eroute 10.1.0.0/16 -> 10.9.0.0/16 leads to it; use another SPI",
			"tun0x200@10.0.0.2 stays: the eroute 10.1.0.0/16 -> 10.9.0.0/16 leads to it\n",
			"eroute 10.1.0.0/16 10.9.0.0/16 tun0x999@10.0.0.2\n" + out},
		{"in a longer group", func(m *model) {
			ah := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x999, Proto: klips.ProtoAH}
			m.groups[0] = append(m.groups[0], ah)
		}, "not brought up: there is tun0x200@10.0.0.2 already, and it is grouped with ah0x999@10.0.0.2; use another SPI",
			"tun0x200@10.0.0.2 stays: it is grouped with ah0x999@10.0.0.2\n", strings.TrimSuffix(out, "\n") + " ah0x999@10.0.0.2\n"},
	}
	for _, tt := range tests {
		b := newBench(t, tunnel)
		b.run("--up t")
		tt.cut(b.model)
		before := b.state()
		if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "conn t: "+tt.up) || b.state() != before {
			t.Errorf("%s: --up: status %d, %swant %s\n%s", tt.name, r.Status, r.Err, tt.up, b.state())
		}
		r := b.run("--down t")
		if !strings.Contains(r.Err, tt.note) || tt.note == "" && r.Err != "" || r.Status != 0 || b.model.String() != tt.left {
			t.Errorf("%s: --down: status %d, %swant %s\ngot %swant %s", tt.name, r.Status, r.Err, tt.note, b.model, tt.left)
		}
	}
}

// TestNotOurs: objects that a user has made by hand with the SAIDs of a connection that
// is not up do not count as the connection.
func TestNotOurs(t *testing.T) {
	tun := klips.SAID{Dst: netip.MustParseAddr("10.0.0.1"), SPI: 0x201, Proto: klips.ProtoTun}
	esp := klips.SAID{Dst: tun.Dst, SPI: 0x203, Proto: klips.ProtoESP}
	peer := netip.MustParseAddr("10.0.0.2")
	des, _, err := syntax.ParseESP("3des-md5-96")
	if err != nil {
		t.Fatal(err)
	}
	null, _, err := syntax.ParseESP("null-md5-96")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		made []klips.SASpec
		up   string
	}{
		{"another source", []klips.SASpec{{ID: esp, Src: netip.MustParseAddr("10.0.0.9"), Transform: des}}, "there is esp0x203@10.0.0.1 already, and its source is 10.0.0.9, not 10.0.0.2"},
		{"no source", []klips.SASpec{{ID: esp, Transform: des}}, "there is esp0x203@10.0.0.1 already, and its source is not known, not 10.0.0.2"},
		{"another algorithm", []klips.SASpec{{ID: esp, Src: peer, Transform: null}}, "there is esp0x203@10.0.0.1 already, and its algorithm is ESP_NULL_HMAC_MD5; use another SPI"},
	} {
		b := newBench(t, tunnel)
		for i := range tt.made {
			if err := b.model.AddSA(ctx, &tt.made[i]); err != nil {
				t.Fatal(err)
			}
		}
		before := b.state()
		for _, op := range []string{"--up t", "--down t"} {
			if r := b.run(op); r.Status != 1 || op == "--up t" && !strings.Contains(r.Err, tt.up) || b.state() != before {
				t.Errorf("%s: %s: status %d, %swant %s\n%s", tt.name, op, r.Status, r.Err, tt.up, b.state())
			}
		}
	}
}

// TestTransportPast: some stacks drop packets in transport mode that are routed into a
// virtual device. On these, no such route is made.
func TestTransportPast(t *testing.T) {
	b := newBench(t, hosts+"spi=0x200\n espreplay_window=64\n esp=3des-md5-96\n "+keys3des)
	b.model.lacks = klips.CapTransportDevice
	if r := b.run("--route t"); r.Status != 0 || !strings.Contains(r.Err, "no route is made") || b.state() != "" {
		t.Errorf("--route: status %d, %s%s", r.Status, r.Err, b.state())
	}
	b.table.routes = []string{"10.0.0.2/32 ipsec0"}
	before := b.state()
	if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "there is the route 10.0.0.2 dev ipsec0; remove it, because this stack drops packets in transport mode") || b.state() != before {
		t.Errorf("--up with a route: status %d, %s%s", r.Status, r.Err, b.state())
	}
	b.table.routes = []string{"10.0.0.2/32 eth0"}
	before = b.state()
	if r := b.run("--up t"); r.Status != 0 || r.Err != "" || !strings.Contains(b.state(), "eroute") || !strings.Contains(b.state(), before) || strings.Contains(b.state(), "ipsec0") {
		t.Errorf("--up: status %d, %s%s", r.Status, r.Err, b.state())
	}
	up := b.state()
	// Its eroute stays, and keeps packets from leaving in clear, until the connection
	// is unrouted.
	const held = "eroute 10.0.0.1/32 10.0.0.2/32 esp0x200@10.0.0.2\n"
	const opened = "ipsec manual: note: conn t: 10.0.0.2/32 can leave in clear now\n"
	for _, tt := range []struct{ line, said, state string }{
		{"--down t", "", held + before},
		{"--down t", "ipsec manual: note: conn t: it was not up\n", held + before},
		{"--up t", "", up},
		{"--unroute t", "ipsec manual: note: conn t: it was not routed\n", up},
		{"--down t", "", held + before},
		{"--unroute t", opened, before},
		{"--up t", "", up},
		{"--down --unroute t", opened, before},
		{"--up t", "", up},
		{"--down t", "", held + before},
		{"--down --unroute t", "ipsec manual: note: conn t: it was not up\n" + opened, before},
	} {
		if r := b.run(tt.line); r.Status != 0 || r.Err != tt.said || b.state() != tt.state {
			t.Errorf("%s: status %d, %q, want %q; there is\n%swant\n%s", tt.line, r.Status, r.Err, tt.said, b.state(), tt.state)
		}
	}
}

// TestTransportPolicy: on stacks that support it, the innermost SA of a connection in
// transport mode has an inbound policy.
func TestTransportPolicy(t *testing.T) {
	policies := func(b *bench) (l []string) {
		sas, err := b.model.SAs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, sa := range sas {
			if sa.Policy != nil {
				l = append(l, sa.ID.String()+" "+sa.Policy.String())
			}
		}
		return l
	}
	const esp, ah = "esp=3des-md5-96\n " + keys3des + " ", "ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n "
	for _, tt := range []struct{ algs, want string }{
		{esp, "esp0x201@10.0.0.1 10.0.0.2/32 -> 10.0.0.1/32"},
		{ah, "ah0x201@10.0.0.1 10.0.0.2/32 -> 10.0.0.1/32"},
		{esp + ah, "esp0x201@10.0.0.1 10.0.0.2/32 -> 10.0.0.1/32"},
	} {
		for _, has := range []bool{true, false} {
			b := newBench(t, hosts+"spibase=0x200\n espreplay_window=64\n ahreplay_window=64\n "+tt.algs)
			want := []string{tt.want}
			if !has {
				b.model.lacks, want = klips.CapTransportPolicy, nil
			}
			before := b.state()
			if r := b.run("--up t"); r.Status != 0 || r.Err != "" || !slices.Equal(policies(b), want) {
				t.Errorf("%s on a stack with such policies (%v): --up: status %d, %spolicies %q, want %q", tt.algs, has, r.Status, r.Err, policies(b), want)
			}
			if r := b.run("--down --unroute t"); r.Status != 0 || b.state() != before {
				t.Errorf("%s: --down: status %d, %s%s", tt.algs, r.Status, r.Err, b.state())
			}
		}
	}
}

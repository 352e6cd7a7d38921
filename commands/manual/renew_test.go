package manual

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/followed"
)

const roaming = "config setup\n interfaces=%defaultroute\n\nconn t\n left=%defaultroute\n right=10.9.0.2\n rightsubnet=10.2.0.0/16\n spibase=0x200\n espreplay_window=64\n esp=3des-md5-96\n " + keys3des

// at gives the host of the bench another address and another device of the default
// route.
func (b *bench) at(addr, gateway, device string) {
	b.host.own = []string{addr + "@ipsec0"}
	b.host.route = followed.Route{Local: netip.MustParseAddr(addr), Gateway: netip.MustParseAddr(gateway), Device: device}
}

func newRoamer(t *testing.T) *bench {
	b := newBench(t, roaming)
	b.host.rundir = filepath.Join(t.TempDir(), "run")
	b.at("10.0.0.1", "10.0.0.254", "eth0")
	return b
}

// TestRenew: --renew after a move has the same result as --up there.
func TestRenew(t *testing.T) {
	for _, tt := range []struct{ name, addr, gateway, device, line string }{
		{"another address", "10.0.0.9", "10.0.0.254", "eth0", "--up t"},
		{"another gateway", "10.0.0.1", "10.0.0.253", "eth0", "--up t"},
		{"another device, one that does not tell its default", "10.5.0.1", "10.5.0.254", "eth0", "--up t"},
		{"a route alone", "10.0.0.9", "10.0.0.253", "eth0", "--route t"},
	} {
		fresh := newRoamer(t)
		fresh.at(tt.addr, tt.gateway, tt.device)
		b := newRoamer(t)
		for _, r := range []clitest.Result{fresh.run(tt.line), b.run(tt.line)} {
			if r.Status != 0 {
				t.Fatalf("%s: %v", tt.name, r)
			}
		}
		if r := b.run("--renew"); r.Status != 0 || r.Err != "" {
			t.Errorf("%s: before anything has changed: %v", tt.name, r)
		}
		b.at(tt.addr, tt.gateway, tt.device)
		r := b.run("--renew t")
		if r.Status != 0 || !strings.Contains(r.Err, "conn t: made again, from "+tt.addr) {
			t.Errorf("%s: %v", tt.name, r)
		}
		if got, want := b.state(), fresh.state(); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
		if got, want := b.guarded(), fresh.guarded(); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
		if r := b.run("--renew"); r.Status != 0 || r.Err != "" {
			t.Errorf("%s: once more: %v", tt.name, r)
		}
		if r := b.run("--down --unroute t"); r.Status != 0 {
			t.Errorf("%s: %v", tt.name, r)
		}
		if followed.Any(b.host.rundir) {
			t.Errorf("%s: it is still followed", tt.name)
		}
	}
}

// TestRenewLater: a connection that cannot be brought up again stays closed, and is
// brought up as soon as possible.
func TestRenewLater(t *testing.T) {
	b := newRoamer(t)
	if r := b.run("--up t"); r.Status != 0 {
		t.Fatal(r)
	}
	closed := b.guarded()
	b.at("10.0.0.9", "10.0.0.254", "eth0")
	for n := 1; ; n++ {
		b.model.requests, b.model.failAt = 0, n
		r := b.run("--renew")
		b.model.failAt = 0
		if r.Status == 0 {
			if n < 5 {
				t.Errorf("only %d requests", n-1)
			}
			break
		}
		for _, g := range strings.Split(closed, "\n") {
			if !strings.Contains(b.guarded(), g) {
				t.Errorf("request %d failed, and this is open: %s", n, g)
			}
		}
	}
	fresh := newRoamer(t)
	fresh.at("10.0.0.9", "10.0.0.254", "eth0")
	if r := fresh.run("--up t"); r.Status != 0 {
		t.Fatal(r)
	}
	if got, want := b.state(), fresh.state(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestRenewRefused: an obstacle is named, and a changed file that does not fit any more
// changes nothing.
func TestRenewRefused(t *testing.T) {
	b := newRoamer(t)
	if r := b.run("--up t"); r.Status != 0 {
		t.Fatal(r)
	}
	before := b.state() + b.guarded()
	b.at("10.0.0.9", "10.0.0.254", "eth0")
	for _, tt := range []struct{ file, want string }{
		{strings.Replace(roaming, "left=%defaultroute", "left=10.0.0.9", 1), "it followed the default route, and has no %defaultroute any more; take it down by hand, and up again"},
		{strings.Replace(roaming, "esp=3des-md5-96", "esp=rot13", 1), "rot13"},
		{"conn other\n left=10.0.0.1\n", "conn t"},
	} {
		if err := os.WriteFile(b.file, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := b.run("--renew"); r.Status != 1 || !strings.Contains(r.Err, tt.want) {
			t.Errorf("%v, want %q", r, tt.want)
		}
		if after := b.state() + b.guarded(); after != before {
			t.Errorf("%q changed something:\n%s\nwant\n%s", tt.want, after, before)
		}
	}
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
	if r := b.run("--renew"); r.Status != 1 || !strings.Contains(r.Err, "conn t: the file that it was made from cannot be read: open ") || strings.Contains(r.Err, "name another file") {
		t.Errorf("without the file: %v", r)
	}
	if err := os.WriteFile(b.file, []byte(roaming), 0o600); err != nil {
		t.Fatal(err)
	}
	b.host.noDefault, b.host.route = true, followed.Route{}
	if r := b.run("--renew"); r.Status != 1 || !strings.Contains(r.Err, "conn t: left: this host has no IPv4 default route") {
		t.Errorf("without a default route: %v", r)
	}
	if r := b.run("--renew u"); r.Status != 1 || !strings.Contains(r.Err, "conn u: it does not follow the default route") {
		t.Errorf("another one: %v", r)
	}
}

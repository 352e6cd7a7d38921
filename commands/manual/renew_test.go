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

// TestRenewNoMore: a connection that was opened is not made again, even if its file is gone.
func TestRenewNoMore(t *testing.T) {
	for _, text := range []string{roaming, "conn other\n x-none=1\n", strings.ReplaceAll(roaming, "%defaultroute", "10.0.0.1")} {
		b := newRoamer(t)
		b.ok(t, "up --config FILE t")
		b.write(t, text)
		if r := b.command("down --config FILE t"); r.Status != 0 || !followed.Any(b.host.rundir) {
			t.Errorf("after down it is not followed: %+v", r)
		}
		if r := b.command("unroute --config FILE t"); r.Status != 0 || followed.Any(b.host.rundir) {
			t.Errorf("after unroute it is followed: %+v", r)
		}
		b.write(t, roaming)
		b.ok(t, "up --config FILE t")
		b.write(t, strings.ReplaceAll(roaming, "left=%defaultroute", "left=10.0.0.1"))
		if r := b.run("--down --unroute t"); r.Status != 0 || followed.Any(b.host.rundir) {
			t.Errorf("after --unroute it is followed: %+v", r)
		}
	}
}

// TestRenewEpoch: a connection whose keys were changed is made again with its present keys.
func TestRenewEpoch(t *testing.T) {
	for _, stateless := range []bool{false, true} {
		b := newRoamer(t)
		b.host.stateless = stateless
		key := filepath.Join(filepath.Dir(b.file), "master.key")
		if err := os.WriteFile(key, []byte("0x"+strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
			t.Fatal(err)
		}
		b.write(t, strings.NewReplacer(keys3des, "masterkey=@master.key\n").Replace(roaming))
		b.ok(t, "up --config FILE t")
		for _, s := range []string{"receive", "send", "retire --force"} {
			if r := b.rekey(&testClock{}, "--stage "+s+" t"); r.Status != 0 {
				t.Fatalf("%s: %+v", s, r)
			}
		}
		b.at("10.0.0.9", "10.0.0.254", "eth0")
		if r := b.run("--renew t"); r.Status != 0 {
			t.Fatalf("%+v", r)
		}
		if s := b.state(); !strings.Contains(s, "tun0x10201@10.0.0.9") || strings.Contains(s, "tun0x201@") || strings.Contains(s, "@10.0.0.1 ") {
			t.Errorf("stateless %t: made again:\n%s", stateless, s)
		}
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

// TestRenewApplied: a connection that gets the default route by apply is followed, and not
// any more when its file names an address.
func TestRenewApplied(t *testing.T) {
	fixed := strings.ReplaceAll(roaming, "left=%defaultroute", "left=10.0.0.1")
	b := newRoamer(t)
	b.write(t, fixed+" auto=start\n")
	b.ok(t, "apply FILE")
	for _, text := range []string{roaming, fixed} {
		b.write(t, strings.Replace(text, "spibase=0x200", "spibase=0x300", 1)+" auto=start\n")
		if text == fixed {
			b.write(t, fixed+" auto=start\n")
		}
		b.ok(t, "apply FILE")
		if got, want := followed.Any(b.host.rundir), text == roaming; got != want {
			t.Errorf("followed: %t, want %t", got, want)
		}
	}
}

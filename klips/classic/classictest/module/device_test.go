package module_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// ipsec0 can be neither made nor deleted, but KLIPS reports success.
func TestPlumb(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name   string
		create bool
		want   syscall.Errno
	}{
		{"ipsec0", true, 0}, {"ipsec0", false, 0}, {"ipsec1", true, syscall.EEXIST}, {"ipsec2", false, syscall.ENOENT},
		{"ipsec2", true, 0}, {"ipsec63", true, 0}, {"ipsec64", true, syscall.ENOENT}, {"ipsec1", false, 0},
		{"mast0", true, syscall.EEXIST}, {"mast1", true, 0}, {"mast1", false, 0},
	} {
		m, err := pfkey.Plumb(c.name, c.create)
		if err != nil {
			t.Fatal(err)
		}
		errno, back := b.ask(m)
		if errno != 0 || len(back) != 1 || back[0].Errno != c.want {
			t.Errorf("%s, create %v: %v, %v, want %v", c.name, c.create, errno, back, c.want)
		}
	}
	b.table("ipsec_tncfg", "ipsec0 -> NULL mtu=0(0) -> 0", "ipsec2 -> NULL mtu=0(0) -> 0", "ipsec63 -> NULL mtu=0(0) -> 0")
}

func TestDevices(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name      string
		got, want syscall.Errno
	}{
		{"attach lo", b.Attach("lo", "eth0"), syscall.EOPNOTSUPP},
		{"attach ipsec9", b.Attach("ipsec9", "eth0"), syscall.ENODEV},
		{"attach an alias", b.Attach("ipsec0", "eth0:1"), 0},
		{"detach", b.Detach("ipsec1"), syscall.ENODEV},
		{"detach all by a device that is not there", b.DetachAll("ipsec9"), syscall.ENODEV},
		{"UDP", b.Encap("ipsec0", 5, klips.NATTNonESP), 0},
		{"UDP on eth0", b.Encap("eth0", 5, klips.NATTNonESP), syscall.EOPNOTSUPP},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	b.table("ipsec_tncfg", "ipsec0 -> eth0 mtu=16260(1500) -> 1500", "ipsec1 -> NULL mtu=0(0) -> 0")
	if d := cmp.Diff([]module.Encap{{Device: "ipsec0", Socket: 5, Type: klips.NATTNonESP}}, b.Encaps()); d != "" {
		t.Error(d)
	}
	b.SetStats("ipsec0", klips.DeviceStats{TxPackets: 3, TxBytes: 252, TxDropped: 1, RxErrors: 2})
	want := "ipsec0:       0       0    2    0    0     0          0         0      252       3    0    1    0     0       0          0\n"
	if !strings.Contains(b.Tables()["dev"], "\n"+want) {
		t.Errorf("dev:\n%swant\n%s", b.Tables()["dev"], want)
	}
}

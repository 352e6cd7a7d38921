package daemon_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
)

// TestTrace: a client asks what happens to a packet, and which packets were dropped.
func TestTrace(t *testing.T) {
	rundir, _ := start(t)
	c, err := user.Dial(user.SocketPath(rundir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sel := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	if _, err := c.Apply(t.Context(), klips.SetEroute{Eroute: klips.Eroute{Selector: sel, ID: klips.Magic(klips.SPIReject)}}); err != nil {
		t.Fatal(err)
	}
	f := klips.Flow{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 17}
	d, err := c.Trace(t.Context(), f)
	if err != nil || d.Fate != klips.FateReject || d.Reason != "eroute-reject" || len(d.Legs) != 1 || d.Legs[0].Eroute != sel {
		t.Errorf("Trace(%+v) = %+v, %v; want a reject by the eroute", f, d, err)
	}
	f.Device = "ipsec9"
	if _, err := c.Trace(t.Context(), f); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Trace(%+v): %v, want ENODEV", f, err)
	}
	f.Src = netip.MustParseAddr("2001:db8::1")
	if _, err := c.Trace(t.Context(), f); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Trace(%+v): %v, want EINVAL", f, err)
	}
	if l, err := c.LastDrops(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("LastDrops = %v, %v; want none: a trace is no packet", l, err)
	}
}

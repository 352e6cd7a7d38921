package classic_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// The kernel has no name for freed memory: no request is sent for it.
func TestFreedIsNoRequest(t *testing.T) {
	s := reader(t, nil)
	freed, other := klips.SAID{}, tun(0x100)
	ctx := t.Context()
	for name, err := range map[string]error{
		"AddSA":     s.AddSA(ctx, &klips.SASpec{ID: freed, Src: local}),
		"DeleteSA":  s.DeleteSA(ctx, freed),
		"Ungroup":   s.Ungroup(ctx, freed),
		"Group":     s.Group(ctx, []klips.SAID{freed, other}),
		"Group to":  s.Group(ctx, []klips.SAID{other, freed}),
		"SetEroute": s.SetEroute(ctx, klips.Eroute{Selector: flow("10.1.0.0/16", 0, 0), ID: freed}, klips.ErouteAdd),
	} {
		if err == nil {
			t.Errorf("%s of a freed SA is accepted", name)
		}
	}
	if _, err := s.GetSA(ctx, freed); err == nil {
		t.Error("GetSA of a freed SA is accepted")
	}
}

// flow returns a selector from and to a subnet.
func flow(subnet string, proto uint8, port uint16) klips.Selector {
	p := netip.MustParsePrefix(subnet)
	return klips.Selector{Src: p, Dst: p, Proto: proto, DstPort: port}
}

// The protocol of an IPv6 eroute would overwrite a part of its source address: no
// request is sent.
func TestFlow6(t *testing.T) {
	ctx := t.Context()
	s := reader(t, nil)
	for _, sel := range []klips.Selector{flow("2001:db8::/64", 6, 0), flow("2001:db8::/64", 17, 53), flow("2001:db8::/64", 255, 0)} {
		for op := klips.ErouteAdd; op <= klips.ErouteReplaceIn; op++ {
			checkFlow6(t, "SetEroute", s.SetEroute(ctx, klips.Eroute{Selector: sel, ID: tun(0x100)}, op))
		}
		checkFlow6(t, "DeleteEroute", s.DeleteEroute(ctx, sel))
	}
	sent := 0
	s = oddKernel(t, func(m *pfkey.Message) []*pfkey.Message { sent++; return []*pfkey.Message{pfkey.Ack(m.Header)} })
	for _, sel := range []klips.Selector{flow("2001:db8::/64", 0, 0), flow("10.1.0.0/16", 6, 25)} {
		if err := errors.Join(s.SetEroute(ctx, klips.Eroute{Selector: sel, ID: tun(0x100)}, klips.ErouteAdd), s.DeleteEroute(ctx, sel)); err != nil {
			t.Errorf("%v: %v", sel, err)
		}
	}
	if sent != 4 {
		t.Errorf("%d messages were sent, want 4", sent)
	}
}

func checkFlow6(t *testing.T, what string, err error) {
	t.Helper()
	var oe *klips.OpError
	if !errors.As(err, &oe) || oe.Fault != klips.FaultFlow6 || !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("%s = %v, want FaultFlow6 with EOPNOTSUPP", what, err)
	}
}

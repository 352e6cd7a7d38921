package classic_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

// TestRandomEroutes runs random commands on eroutes, many of which differ only in their
// masks, on the stack and on a model: no eroute is mistaken for another. They differ in
// one point: KLIPS cannot replace an eroute that does not exist.
func TestRandomEroutes(t *testing.T) {
	k := classictest.NewKernel(t, local)
	s := classic.New(k.Machine())
	t.Cleanup(func() { s.Close() })
	rapid.Check(t, func(r *rapid.T) {
		ctx := t.Context()
		if err := s.ClearEroutes(ctx); err != nil {
			r.Fatal(err)
		}
		m := klipstest.NewModel(nil, nil)
		for range rapid.IntRange(1, 30).Draw(r, "commands") {
			sel := drawSelector(r)
			e := klips.Eroute{Selector: sel, ID: klips.Magic(rapid.SampledFrom([]klips.SPI{klips.SPIPass, klips.SPIDrop, klips.SPITrap}).Draw(r, "target"))}
			routes, err := m.Eroutes(ctx)
			if err != nil {
				r.Fatal(err)
			}
			there := slices.ContainsFunc(routes, func(o klips.Eroute) bool { return o.Selector == sel })
			var want, got error
			var what string
			switch rapid.IntRange(0, 5).Draw(r, "command") {
			case 0, 1, 2:
				what, want, got = "add", m.SetEroute(ctx, e, klips.ErouteAdd), s.SetEroute(ctx, e, klips.ErouteAdd)
			case 3:
				what, want, got = "replace", syscall.ENOENT, s.SetEroute(ctx, e, klips.ErouteReplace)
				if there {
					want = m.SetEroute(ctx, e, klips.ErouteReplace)
				}
			default:
				what, want, got = "delete", m.DeleteEroute(ctx, sel), s.DeleteEroute(ctx, sel)
			}
			if errors.Is(got, syscall.EFAULT) && errors.Is(want, syscall.ENOENT) {
				got = want // KLIPS' error when no eroute has the addresses
			}
			var w, g syscall.Errno
			errors.As(want, &w)
			errors.As(got, &g)
			if w != g || (want == nil) != (got == nil) {
				r.Fatalf("%s %v = %v, want %v", what, e, got, want)
			}
			if d := cmp.Diff(erouteList(r, m), erouteList(r, s), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
				r.Fatalf("after %s %v (-want +got)\n%s", what, e, d)
			}
		}
	})
}

// drawSelector draws from few selectors. Those of IPv6 have no protocol, which KLIPS
// would store in the source address.
func drawSelector(r *rapid.T) klips.Selector {
	if rapid.IntRange(0, 4).Draw(r, "family") == 0 {
		six := rapid.SampledFrom([]string{"::/0", "2001:db8::/32", "2001:db8::/48", "2001:db8::/128"})
		return klips.Selector{Src: netip.MustParsePrefix(six.Draw(r, "source")), Dst: netip.MustParsePrefix(six.Draw(r, "destination"))}
	}
	four := rapid.SampledFrom([]string{"0.0.0.0/0", "10.1.0.0/16", "10.1.0.0/24", "10.1.0.0/32", "10.1.1.0/24"})
	s := klips.Selector{Src: netip.MustParsePrefix(four.Draw(r, "source")), Dst: netip.MustParsePrefix(four.Draw(r, "destination"))}
	if s.Proto = rapid.SampledFrom([]uint8{0, 0, 0, 6}).Draw(r, "protocol"); s.Proto != 0 {
		s.DstPort = rapid.SampledFrom([]uint16{0, 80}).Draw(r, "port")
	}
	return s
}

// erouteList returns the eroutes in the order of the model. KLIPS' order of eroutes
// with incomparable masks depends on their history.
func erouteList(r *rapid.T, s serial.Doer) []klips.Eroute {
	r.Helper()
	l, err := s.Eroutes(context.Background())
	if err != nil {
		r.Fatal(err)
	}
	slices.SortFunc(l, klips.CompareEroutes)
	return l
}

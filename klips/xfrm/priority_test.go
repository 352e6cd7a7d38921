package xfrm

import (
	"context"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
)

// aSelector draws from few values, so that selectors overlap.
func aSelector(r *rapid.T) klips.Selector {
	prefix := func(name string) netip.Prefix {
		a := netip.AddrFrom4([4]byte{byte(rapid.IntRange(0, 3).Draw(r, name)) << 6, 0, 0, byte(rapid.IntRange(0, 3).Draw(r, name))})
		return netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 1, 2, 31, 32}).Draw(r, name+" bits")).Masked()
	}
	s := klips.Selector{Src: prefix("src"), Dst: prefix("dst")}
	if s.Proto = rapid.SampledFrom([]uint8{0, 6}).Draw(r, "proto"); s.Proto != 0 {
		s.SrcPort = rapid.SampledFrom([]uint16{0, 1000}).Draw(r, "sport")
		s.DstPort = rapid.SampledFrom([]uint16{0, 80}).Draw(r, "dport")
	}
	return s
}

// Of all matching policies the kernel takes the one with the lowest priority, and of
// these the oldest. This is KLIPS' choice, after any additions and removals.
func TestPriorities(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		m := klipstest.NewModel(func(netip.Addr) bool { return false }, func(string) (int, bool) { return 0, false })
		tb := newTables()
		for range rapid.IntRange(1, 30).Draw(r, "changes") {
			s := aSelector(r)
			if tb.routes[s] != nil {
				delete(tb.routes, s)
				m.DeleteEroute(ctx, s)
				continue
			}
			e := klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIDrop)}
			if err := tb.setEroute(e, klips.ErouteAdd); err != nil {
				r.Fatal(err)
			}
			m.SetEroute(ctx, e, klips.ErouteAdd)
			tb.prioritise()
			addr := func(name string) netip.Addr {
				return netip.AddrFrom4([4]byte{byte(rapid.IntRange(0, 3).Draw(r, name)) << 6, 0, 0, byte(rapid.IntRange(0, 3).Draw(r, name))})
			}
			src, dst := addr("from"), addr("to")
			sport, dport := rapid.SampledFrom([]uint16{7, 1000}).Draw(r, "from port"), rapid.SampledFrom([]uint16{7, 80}).Draw(r, "to port")
			want := m.Match(src, dst, 6, sport, dport)
			got := kernelMatch(tb, src, dst, sport, dport)
			if (want == nil) != (got == nil) || want != nil && want.Selector != got.Selector {
				r.Fatalf("%v -> %v: %v, want %v", src, dst, got, want)
			}
		}
	})
}

// kernelMatch selects a policy for a TCP packet as the kernel does.
func kernelMatch(t *tables, src, dst netip.Addr, sport, dport uint16) (best *route) {
	for _, r := range t.routes {
		s := r.Selector
		if s.Src.Contains(src) && s.Dst.Contains(dst) && (s.Proto == 0 || s.Proto == 6) &&
			(s.SrcPort == 0 || s.SrcPort == sport) && (s.DstPort == 0 || s.DstPort == dport) &&
			(best == nil || r.priority < best.priority || r.priority == best.priority && r.age < best.age) {
			best = r
		}
	}
	return best
}

// Priorities ascend whatever the order in which eroutes are made, even if thousands are
// made at one place.
func TestPrioritiesHaveRoom(t *testing.T) {
	for name, n := range map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return 3000 - i },
		"inwards": func(i int) int { // always in the middle of the existing ones
			if i%2 == 0 {
				return i
			}
			return 6000 - i
		},
	} {
		t.Run(name, func(t *testing.T) {
			tb := newTables()
			for i := range 3000 {
				a := netip.AddrFrom4([4]byte{10, byte(n(i) >> 8), byte(n(i)), 0})
				e := klips.Eroute{Selector: klips.Selector{Src: netip.PrefixFrom(a, 24), Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}, ID: klips.Magic(klips.SPIDrop)}
				if err := tb.setEroute(e, klips.ErouteAdd); err != nil {
					t.Fatal(err)
				}
				if i%100 < 3 || i > 2900 {
					tb.prioritise()
				}
			}
			var l []*route
			for _, r := range tb.routes {
				l = append(l, r)
			}
			for _, a := range l {
				if a.priority < minPriority || a.priority > maxPriority {
					t.Fatalf("priority %d", a.priority)
				}
			}
			// All keys are different here, so priorities must be different, and in the
			// order of the keys.
			for _, a := range l[:50] {
				for _, b := range l {
					if a != b && (a.Src.Addr().Less(b.Src.Addr()) != (a.priority > b.priority) || a.priority == b.priority) {
						t.Fatalf("%v has priority %d, %v %d", a.Src, a.priority, b.Src, b.priority)
					}
				}
			}
		})
	}
}

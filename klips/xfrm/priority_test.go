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
			(best == nil || priority(s) < priority(best.Selector) || priority(s) == priority(best.Selector) && r.age < best.age) {
			best = r
		}
	}
	return best
}

// Priorities are in their range, and each part of the key counts more than the next.
func TestPriorityRange(t *testing.T) {
	selector := func(src, dst string, proto uint8, sport, dport uint16) klips.Selector {
		return klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst), Proto: proto, SrcPort: sport, DstPort: dport}
	}
	last := uint32(0)
	for _, s := range []klips.Selector{ // KLIPS prefers the first
		selector("ffff::1/128", "ffff::1/128", 6, 1, 1),
		selector("ffff::1/128", "ffff::1/128", 6, 1, 0),
		selector("ffff::1/128", "ffff::1/128", 6, 0, 1),
		selector("ffff::1/128", "ffff::1/128", 6, 0, 0),
		selector("ffff::1/128", "ffff::1/128", 0, 0, 0),
		selector("255.255.255.255/32", "255.255.255.254/32", 6, 1, 1),
		selector("ffff::/128", "ffff::2/128", 6, 1, 1),
		selector("10.1.0.0/16", "10.2.0.0/24", 0, 0, 0),
		selector("10.1.0.0/16", "10.2.0.0/16", 0, 0, 0),
		selector("10.0.0.0/16", "10.2.0.0/16", 6, 0, 0),
		selector("10.0.0.0/8", "10.2.0.0/16", 0, 0, 0),
		selector("10.0.0.0/8", "10.0.0.0/16", 6, 0, 0),
		selector("0.0.0.0/32", "255.0.0.0/32", 0, 0, 0),
		selector("::/0", "::/0", 0, 0, 0),
	} {
		got := priority(s)
		if got < minPriority || got >= maxPriority || got <= last {
			t.Errorf("%v: priority %d after %d", s, got, last)
		}
		last = got
	}
}

package eroute

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// A rule is an eroute in the form of the oracle: key and mask as the byte strings that
// a KLIPS kernel compares.
type rule struct {
	klips.Selector
	name      string
	key, mask []byte
}

// bytesOf concatenates the five fields.
func bytesOf(src, dst []byte, proto uint8, sport, dport uint16) []byte {
	return slices.Concat(src, dst, []byte{proto, byte(sport >> 8), byte(sport), byte(dport >> 8), byte(dport)})
}

func maskOf(n, size int) []byte {
	m := make([]byte, size)
	for i := range n {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

func newRule(name string, s klips.Selector) rule {
	all := func(set bool) uint16 {
		if set {
			return 0xffff
		}
		return 0
	}
	n := s.Src.Addr().BitLen() / 8
	return rule{
		Selector: s, name: name,
		key: bytesOf(s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice(), s.Proto, s.SrcPort, s.DstPort),
		mask: bytesOf(maskOf(s.Src.Bits(), n), maskOf(s.Dst.Bits(), n),
			uint8(all(s.Proto != 0)), all(s.SrcPort != 0), all(s.DstPort != 0)),
	}
}

func and(a, b []byte) []byte {
	c := make([]byte, len(a))
	for i := range a {
		c[i] = a[i] & b[i]
	}
	return c
}

func ones(m []byte) (n int) {
	for _, b := range m {
		for ; b != 0; b &= b - 1 {
			n++
		}
	}
	return n
}

// oracle finds the winner by the documented rule; rules are in the order of adding. It
// collects all matching rules; discards each that another one refines; takes the
// greatest key, then the most mask bits, then the oldest.
func oracle(rules []rule, p *Packet) *rule {
	sel := bytesOf(p.Src.AsSlice(), p.Dst.AsSlice(), p.Proto, p.SrcPort, p.DstPort)
	var matches []*rule
	for i := range rules {
		r := &rules[i]
		if len(r.key) == len(sel) && bytes.Equal(and(sel, r.mask), r.key) {
			matches = append(matches, r)
		}
	}
	var best *rule
	for _, r := range matches {
		if slices.ContainsFunc(matches, func(o *rule) bool {
			return !bytes.Equal(o.mask, r.mask) && bytes.Equal(and(o.mask, r.mask), r.mask)
		}) {
			continue
		}
		if best == nil {
			best = r
			continue
		}
		switch c := bytes.Compare(r.key, best.key); {
		case c > 0, c == 0 && ones(r.mask) > ones(best.mask):
			best = r
		}
	}
	return best
}

// The pools contain prefixes that are nested, that share an address, and that are
// disjoint.
var (
	pool4 = []string{
		"10.1.0.5", "10.1.0.6", "10.1.0.133", "10.1.7.7", "10.1.128.1", "10.0.0.0", "10.2.5.9", "10.2.5.200",
		"172.16.5.9", "0.0.0.0", "0.0.0.5", "255.255.255.255", "128.0.0.0", "192.168.1.1",
	}
	pool6 = []string{
		"::", "::5", "fd00::1", "fd00::2", "fd00:0:0:1::", "fd00:0:0:1::ffff", "fd00:8000::1",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1", "2001:db8::ffff:0:0:1",
	}
	bits4  = []int{0, 0, 1, 8, 12, 16, 17, 24, 25, 31, 32, 32}
	bits6  = []int{0, 0, 1, 16, 48, 63, 64, 65, 112, 127, 128, 128}
	protos = []uint8{0, 0, 0, 1, 6, 6, 17, 255}
	ports  = []uint16{0, 0, 0, 80, 1000, 65535}
)

func pick[T any](r *rand.Rand, l []T) T { return l[r.IntN(len(l))] }

func randSelector(r *rand.Rand) klips.Selector {
	pool, bits := pool4, bits4
	if r.IntN(3) == 0 {
		pool, bits = pool6, bits6
	}
	prefix := func() netip.Prefix {
		return netip.PrefixFrom(netip.MustParseAddr(pick(r, pool)), pick(r, bits)).Masked()
	}
	s := klips.Selector{Src: prefix(), Dst: prefix(), Proto: pick(r, protos)}
	if r.IntN(2) == 0 { // for any protocol too, which only PF_KEY can express
		s.SrcPort, s.DstPort = pick(r, ports), pick(r, ports)
	}
	return s
}

func randPacket(r *rand.Rand) Packet {
	pool := pool4
	if r.IntN(3) == 0 {
		pool = pool6
	}
	p := Packet{
		Src: netip.MustParseAddr(pick(r, pool)), Dst: netip.MustParseAddr(pick(r, pool)),
		Proto: pick(r, protos),
	}
	if p.Proto == 6 || p.Proto == 17 {
		p.SrcPort, p.DstPort = pick(r, ports), pick(r, ports)
	}
	return p
}

// TestOracle compares lookups in random tables with the oracle, while eroutes
// are added and deleted.
func TestOracle(t *testing.T) {
	tables, lookups := 400, 150
	if testing.Short() {
		tables = 60
	}
	contested := 0
	for seed := range uint64(tables) {
		r := rand.New(rand.NewPCG(seed, 1))
		tab := New()
		var rules []rule
		size := pick(r, []int{2, 3, 5, 12, 40, 120})
		for range size {
			s := randSelector(r)
			if tab.Add(klips.Eroute{Selector: s}) == nil {
				rules = append(rules, newRule("", s))
			}
		}
		for i := range lookups {
			if i%10 == 9 && len(rules) > 0 {
				j := r.IntN(len(rules))
				if _, err := tab.Delete(rules[j].Selector); err != nil {
					t.Fatalf("Delete(%v): %v", rules[j].Selector, err)
				}
				rules = slices.Delete(rules, j, j+1)
			}
			p := randPacket(r)
			for i := range rules {
				if got, want := p.Matches(&rules[i].Selector), oracle(rules[i:i+1], &p) != nil; got != want {
					t.Fatalf("seed %d: Matches(%+v, %v) = %v, want %v", seed, p, rules[i].Selector, got, want)
				}
			}
			got, want := tab.Lookup(&p), oracle(rules, &p)
			switch {
			case got == nil && want == nil:
			case got == nil || want == nil || got.Selector() != want.Selector:
				t.Fatalf("seed %d: Lookup(%+v) = %v, want %v, of %v", seed, p, got, want, rules)
			default:
				contested++
			}
		}
	}
	if contested < tables*lookups/10 {
		t.Errorf("only %d lookups found anything", contested)
	}
}

func sel(src, dst string, rest ...uint16) klips.Selector {
	s := klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
	for i, n := range rest {
		switch i {
		case 0:
			s.Proto = uint8(n)
		case 1:
			s.SrcPort = n
		case 2:
			s.DstPort = n
		}
	}
	return s
}

func pkt(src, dst string, rest ...uint16) Packet {
	p := Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: 1}
	for i, n := range rest {
		switch i {
		case 0:
			p.Proto = uint8(n)
		case 1:
			p.SrcPort = n
		case 2:
			p.DstPort = n
		}
	}
	return p
}

// TestWinner has winners that a KLIPS kernel chose, for tables of two eroutes.
func TestWinner(t *testing.T) {
	const all, net1, net5 = "0.0.0.0/0", "192.168.1.0/24", "172.16.5.0/24"
	for _, test := range []struct {
		name        string
		win, lose   klips.Selector
		packet      Packet
		keepsOrders bool // the older one wins
	}{
		{"refined destination", sel("10.0.1.0/24", "10.0.2.0/24"), sel("10.0.1.0/24", all), pkt("10.0.1.7", "10.0.2.6"), false},
		{"host in net", sel("10.0.1.0/24", "10.0.2.5/32"), sel("10.0.1.0/24", "10.0.2.0/24"), pkt("10.0.1.7", "10.0.2.5"), false},
		{"protocol", sel(net1, net5, 6), sel(net1, net5), pkt("192.168.1.1", "172.16.5.9", 6, 1, 2), false},
		{"port", sel(net1, net5, 6, 0, 80), sel(net1, net5, 6), pkt("192.168.1.1", "172.16.5.9", 6, 5, 80), false},
		{"greater source key", sel("192.168.1.5/32", all), sel(net1, net5), pkt("192.168.1.5", "172.16.5.9"), false},
		{"upper half", sel("192.168.1.128/25", all), sel(net1, net5), pkt("192.168.1.133", "172.16.5.9"), false},
		{"lower half", sel(net1, net5), sel("192.168.1.0/25", all), pkt("192.168.1.5", "172.16.5.9"), false},
		{"source before destination", sel(net1, net5), sel(all, "172.16.5.9/32"), pkt("192.168.1.133", "172.16.5.9"), false},
		{"source only", sel(net1, all), sel(all, "172.16.5.9/32"), pkt("192.168.1.133", "172.16.5.9"), false},
		{"source key zero", sel(all, "172.16.5.9/32"), sel("0.0.0.0/1", all), pkt("10.1.1.1", "172.16.5.9"), false},
		{"destination before protocol", sel(net1, "172.16.5.9/32"), sel(net1, net5, 6), pkt("192.168.1.1", "172.16.5.9", 6, 1, 2), false},
		{"protocol where addresses are equal", sel(net1, net5, 6), sel(net1, "172.16.5.0/25"), pkt("192.168.1.1", "172.16.5.9", 6, 1, 2), false},
		{"host pair before protocol", sel("192.168.1.1/32", "172.16.5.9/32"), sel(net1, net5, 6), pkt("192.168.1.1", "172.16.5.9", 6, 1, 2), false},
		{"source port", sel(net1, net5, 6, 1000), sel(net1, net5, 6, 0, 80), pkt("192.168.1.1", "172.16.5.9", 6, 1000, 80), false},
		{"protocol before port", sel(net1, net5, 6), sel(net1, net5, 0, 0, 80), pkt("192.168.1.1", "172.16.5.9", 6, 5, 80), false},
		{"one key, incomparable masks", sel("10.1.0.0/24", "10.2.0.0/16"), sel("10.1.0.0/16", "10.2.0.0/24"), pkt("10.1.0.1", "10.2.0.1"), true},
	} {
		for _, winnerFirst := range []bool{true, false} {
			if test.keepsOrders && !winnerFirst {
				continue
			}
			order := []klips.Selector{test.win, test.lose}
			if !winnerFirst {
				slices.Reverse(order)
			}
			tab := New()
			var rules []rule
			for _, s := range order {
				if err := tab.Add(klips.Eroute{Selector: s}); err != nil {
					t.Fatal(err)
				}
				rules = append(rules, newRule("", s))
			}
			if got := tab.Lookup(&test.packet); got == nil || got.Selector() != test.win {
				t.Errorf("%s: Lookup = %v, want %v", test.name, got, test.win)
			}
			if got := oracle(rules, &test.packet); got.Selector != test.win {
				t.Errorf("%s: the oracle says %v, want %v", test.name, got.Selector, test.win)
			}
		}
	}
}

// randTable returns a table of at most n random eroutes, and their rules in the order of
// their making.
func randTable(r *rand.Rand, n int) (tab *Table, rules []rule) {
	tab = New()
	for range n {
		s := randSelector(r)
		if tab.Add(klips.Eroute{Selector: s}) == nil {
			rules = append(rules, newRule("", s))
		}
	}
	return tab, rules
}

// TestVersions looks up in older versions of a table: a lookup that began at a version
// ignores eroutes added since.
func TestVersions(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		tab, rules := randTable(r, 60)
		for range 300 {
			p := randPacket(r)
			if p.Src.Is4() != p.Dst.Is4() {
				continue
			}
			version := r.IntN(len(rules) + 1)
			got := tab.tables.Load().family(p.Src.Is6()).lookup(&p, uint64(version))
			want := oracle(rules[:version], &p)
			if (got == nil) != (want == nil) || got != nil && got.Selector() != want.Selector {
				t.Fatalf("seed %d: at version %d lookup(%+v) = %v, want %v", seed, version, p, got, want)
			}
		}
	}
}

// TestInterrupted looks up while a change has begun and is not done: what it has changed up
// to then is not seen before its number is published.
func TestInterrupted(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		tab, rules := randTable(r, 20)
		// The steps of put and of remove, up to where the change becomes visible.
		version := tab.version.Load() + 1
		tab.begun.Store(version)
		f := func(s *klips.Selector) *family { return tab.tables.Load().family(s.Is6()) }
		gone := pick(r, rules).Selector
		k := toKey(&gone)
		f(&gone).get(&k).died.Store(version)
		added := randSelector(r)
		k = toKey(&added)
		if old := f(&added).get(&k); old != nil {
			e := newEntry(&klips.Eroute{Selector: added, PID: 1}, k, version)
			e.prev.Store(old)
			f(&added).replace(old, e)
		} else {
			f(&added).insert(newEntry(&klips.Eroute{Selector: added, PID: 1}, k, version))
		}
		for range 200 {
			p := randPacket(r)
			got, want := tab.Lookup(&p), oracle(rules, &p)
			if (got == nil) != (want == nil) || got != nil && (got.Selector() != want.Selector || got.PID != 0) {
				t.Fatalf("seed %d: Lookup(%+v) = %v, want %v", seed, p, got, want)
			}
		}
	}
}

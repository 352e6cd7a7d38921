package eroute

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/klips-go/ipsec/klips"
)

// TestCache compares a Cache with lookups in its table, under random changes. The table is
// compared with the oracle in TestOracle.
func TestCache(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	remembered := 0
	for range 60 {
		tab := New()
		c := tab.NewCache()
		packets := make([]Packet, 40)
		for i := range packets {
			packets[i] = randPacket(r)
		}
		var there []klips.Selector
		for range 100 {
			e := klips.Eroute{Selector: randSelector(r)}
			if len(there) > 0 && r.IntN(2) == 0 {
				e.Selector = pick(r, there)
			}
			switch r.IntN(12) {
			case 0:
				tab.Clear()
			case 1, 2, 3:
				tab.Delete(e.Selector)
			case 4, 5:
				tab.Replace(e)
			case 6:
				tab.Exchange(tab.Get(e.Selector), e)
			case 7: // no change
			default:
				tab.Add(e)
			}
			there = append(there, e.Selector)
			for range 10 {
				p := pick(r, packets)
				if got, want := c.Lookup(&p), tab.Lookup(&p); got != want {
					t.Fatalf("Lookup(%+v) = %v, want %v", p, got, want)
				}
			}
			for i := range c.slots {
				if f := &c.slots[i]; f.rest != 0 && f.version == tab.version.Load() && f.entry != nil {
					remembered++
				}
			}
		}
	}
	if remembered < 1000 {
		t.Errorf("only %d results were remembered", remembered)
	}
}

// TestCacheFlows: packets that differ in one field are different flows.
func TestCacheFlows(t *testing.T) {
	base := pkt("10.1.0.1", "10.2.0.1", 6, 1, 2)
	others := []Packet{
		pkt("10.1.0.2", "10.2.0.1", 6, 1, 2), pkt("10.1.0.1", "10.2.0.2", 6, 1, 2), pkt("10.1.0.1", "10.2.0.1", 17, 1, 2),
		pkt("10.1.0.1", "10.2.0.1", 6, 3, 2), pkt("10.1.0.1", "10.2.0.1", 6, 1, 3), pkt("a01:1::", "a02:1::", 6, 1, 2),
		pkt("a01:1::1", "a02:1::", 6, 1, 2), pkt("a01:1::", "a02:1::1", 6, 1, 2),
	}
	tab := New()
	for _, p := range others {
		s := klips.Selector{Src: must(p.Src.Prefix(p.Src.BitLen())), Dst: must(p.Dst.Prefix(p.Dst.BitLen())), Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort}
		if err := tab.Add(klips.Eroute{Selector: s}); err != nil {
			t.Fatal(err)
		}
	}
	c := tab.NewCache()
	for range 2 {
		for _, p := range others {
			// All flows are put into each slot.
			for i := range c.slots {
				c.slots[i] = c.slots[slotOf(c, &base)]
			}
			if e := c.Lookup(&base); e != nil {
				t.Errorf("%+v has %v", base, e.Selector())
			}
			if e := c.Lookup(&p); e == nil || !p.Matches(new(e.Selector())) {
				t.Errorf("%+v has no eroute", p)
			}
		}
	}
	for _, p := range []Packet{{}, {Src: base.Src}, {Src: base.Src, Dst: others[5].Dst}} {
		if e := c.Lookup(&p); e != nil {
			t.Errorf("Lookup(%+v) = %v, want nil", p, e)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// slotOf looks a packet up, and returns its slot.
func slotOf(c *Cache, p *Packet) int {
	c.Lookup(p)
	for i := range c.slots {
		if f := &c.slots[i]; f.src == toAddr(p.Src) && f.dst == toAddr(p.Dst) && f.rest == p.rest() {
			return i
		}
	}
	return 0
}

func TestCacheAllocs(t *testing.T) {
	if n := unsafe.Sizeof(flow{}); n != 64 {
		t.Errorf("a flow has %d bytes, want those of one line", n)
	}
	tab := New()
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		tab.Add(klips.Eroute{Selector: randSelector(r)})
	}
	c, i := tab.NewCache(), 0
	packets := make([]Packet, 100)
	for i := range packets {
		packets[i] = randPacket(r)
	}
	if n := testing.AllocsPerRun(1000, func() {
		c.Lookup(&packets[i%len(packets)])
		i++
	}); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
}

// BenchmarkCache looks up packets of some flows, in turn, with a Cache.
func BenchmarkCache(b *testing.B) {
	for _, n := range sizes {
		t := fill(b, n, workloads[1].make)
		for _, flows := range []uint32{16, 512, 1 << 16} {
			if flows > n && flows != 16 {
				continue
			}
			packets := make([]Packet, flows)
			for i := range packets {
				_, packets[i] = workloads[1].make(rand.Uint32N(n))
			}
			b.Run(fmt.Sprintf("%d/%dflows", n, flows), func(b *testing.B) {
				c := t.NewCache()
				for i := range b.N {
					if c.Lookup(&packets[i&(len(packets)-1)]) == nil {
						b.Fatal("nothing found")
					}
				}
			})
		}
	}
}

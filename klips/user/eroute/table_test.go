package eroute

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
)

var compareAddrs = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
var compareIDs = cmp.Comparer(func(a, b klips.SAID) bool { return a == b })

// TestModel compares a table with a map under random changes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		pool := make([]klips.Selector, rapid.IntRange(1, 60).Draw(t, "selectors"))
		for i := range pool {
			pool[i] = randSelector(r)
		}
		tab := New()
		model := map[klips.Selector]klips.Eroute{}
		var order []klips.Selector // oldest first
		index := rapid.IntRange(0, len(pool)-1)
		spi := klips.MinSPI
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			s := pool[index.Draw(t, "selector")]
			old, there := model[s]
			spi++
			e := klips.Eroute{Selector: s, ID: klips.SAID{Dst: s.Dst.Addr(), SPI: spi, Proto: klips.ProtoTun}, PID: int32(spi)}
			switch op := rapid.IntRange(0, 29).Draw(t, "op"); {
			case op < 12:
				err := tab.Add(e)
				if there != errors.Is(err, syscall.EEXIST) || !there && err != nil {
					t.Fatalf("Add(%v) = %v, there: %v", s, err, there)
				}
				if !there {
					model[s] = e
					order = append(order, s)
				}
			case op < 18:
				got, err := tab.Replace(e)
				if err != nil || (got != nil) != there || there && got.ID != old.ID {
					t.Fatalf("Replace(%v) = %v, %v, there was %v", s, got, err, old)
				}
				model[s] = e
				order = append(slices.DeleteFunc(order, func(o klips.Selector) bool { return o == s }), s)
			case op < 29:
				got, err := tab.Delete(s)
				if there != (err == nil) || !there && !errors.Is(err, syscall.ENOENT) || there && got.ID != old.ID {
					t.Fatalf("Delete(%v) = %v, %v, there was %v", s, got, err, old)
				}
				delete(model, s)
				order = slices.DeleteFunc(order, func(o klips.Selector) bool { return o == s })
			default:
				if got := len(tab.Clear()); got != len(model) {
					t.Fatalf("Clear() returned %d eroutes, want %d", got, len(model))
				}
				clear(model)
				order = nil
			}
			got := tab.Get(s)
			if want, ok := model[s]; ok != (got != nil) || ok && !reflect.DeepEqual(got.Eroute(), want) {
				t.Fatalf("Get(%v) = %v, want %v", s, got, want)
			}
			p := randPacket(r)
			var rules []rule
			for _, s := range order {
				rules = append(rules, newRule("", s))
			}
			win, want := tab.Lookup(&p), oracle(rules, &p)
			if (win == nil) != (want == nil) || win != nil && (win.Selector() != want.Selector || win.ID != model[want.Selector].ID) {
				t.Fatalf("Lookup(%+v) = %v, want %v", p, win, want)
			}
		}
		var got, want []klips.Eroute
		for _, e := range tab.All() {
			got = append(got, e.Eroute())
		}
		for _, e := range model {
			want = append(want, e)
		}
		slices.SortFunc(want, klips.CompareEroutes)
		if d := cmp.Diff(got, want, compareAddrs, compareIDs); d != "" {
			t.Fatalf("All() differs (-got +want):\n%s", d)
		}
		if tab.Len() != len(model) {
			t.Fatalf("Len() = %d, want %d", tab.Len(), len(model))
		}
		// Clear leaves nothing that would make later lookups slow.
		tab.Clear()
		for s := range model {
			if err := tab.Add(klips.Eroute{Selector: s}); err != nil {
				t.Fatal(err)
			}
		}
		for s := range model {
			if _, err := tab.Delete(s); err != nil {
				t.Fatal(err)
			}
		}
		tables := tab.tables.Load()
		for _, f := range []*family{&tables.four, &tables.six} {
			if n := f.lengths.max(maxBits); n != -1 || f.sources.Len() != 0 || f.entries.Len() != 0 {
				t.Fatalf("the empty table has source length %d, %d sources, %d entries", n, f.sources.Len(), f.entries.Len())
			}
		}
	})
}

func TestRefused(t *testing.T) {
	tab := New()
	for _, s := range []klips.Selector{
		{},
		{Src: netip.MustParsePrefix("10.0.0.0/8")},
		{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("fd00::/8")},
		{Src: netip.MustParsePrefix("fd00::/8"), Dst: netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), 128)},
		{Src: netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33), Dst: netip.MustParsePrefix("10.0.0.0/8")},
	} {
		_, replaceErr := tab.Replace(klips.Eroute{Selector: s})
		_, deleteErr := tab.Delete(s)
		for _, err := range []error{tab.Add(klips.Eroute{Selector: s}), replaceErr, deleteErr} {
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%v: %v, want EINVAL", s, err)
			}
		}
		if e := tab.Get(s); e != nil {
			t.Errorf("Get(%v) = %v", s, e)
		}
	}
	if tab.Len() != 0 {
		t.Errorf("Len() = %d, want 0", tab.Len())
	}
}

func TestOddPackets(t *testing.T) {
	tab := New()
	for _, s := range []klips.Selector{sel("0.0.0.0/0", "0.0.0.0/0"), sel("::/0", "::/0")} {
		if err := tab.Add(klips.Eroute{Selector: s}); err != nil {
			t.Fatal(err)
		}
	}
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, p := range []Packet{{}, {Src: v4}, {Dst: v4}, {Src: v4, Dst: v6}, {Src: v6, Dst: v4}} {
		if e := tab.Lookup(&p); e != nil {
			t.Errorf("Lookup(%v) = %v, want nil", p, e)
		}
	}
}

func TestHostBits(t *testing.T) {
	tab := New()
	if err := tab.Add(klips.Eroute{Selector: sel("10.1.2.3/16", "10.2.3.4/16")}); err != nil {
		t.Fatal(err)
	}
	if err := tab.Add(klips.Eroute{Selector: sel("10.1.0.0/16", "10.2.0.0/16")}); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("Add = %v, want EEXIST", err)
	}
	if got, want := tab.All()[0].Selector(), sel("10.1.0.0/16", "10.2.0.0/16"); got != want {
		t.Errorf("listed as %v, want %v", got, want)
	}
}

func TestReplaceCounts(t *testing.T) {
	tab := New()
	s := sel("10.1.0.0/16", "10.2.0.0/16")
	tab.Add(klips.Eroute{Selector: s})
	p := pkt("10.1.0.1", "10.2.0.1")
	tab.Lookup(&p).Packets.Add(3)
	old, err := tab.Replace(klips.Eroute{Selector: s})
	if err != nil || old.Packets.Load() != 3 {
		t.Fatalf("Replace = %v, %v", old, err)
	}
	if n := tab.Lookup(&p).Packets.Load(); n != 0 {
		t.Errorf("the counter is %d after Replace, want 0", n)
	}
}

func TestLookupAllocs(t *testing.T) {
	tab := New()
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		tab.Add(klips.Eroute{Selector: randSelector(r)})
	}
	packets := make([]Packet, 100)
	for i := range packets {
		packets[i] = randPacket(r)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		tab.Lookup(&packets[i%len(packets)])
		i++
	}); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
}

// TestMoment has a writer change the table all the time. At any moment the packet has a
// protecting eroute or none at all; below them is an eroute that lets it pass. A lookup
// that mixed two moments would find the latter.
func TestMoment(t *testing.T) {
	tab := New()
	pass := klips.Eroute{Selector: sel("10.0.0.0/8", "10.0.0.0/8"), ID: klips.Magic(klips.SPIPass)}
	protect := func(s klips.Selector) klips.Eroute {
		return klips.Eroute{Selector: s, ID: klips.SAID{Dst: s.Dst.Addr(), SPI: 0x1000, Proto: klips.ProtoTun}}
	}
	a := protect(sel("10.1.0.0/16", "10.2.0.0/16"))
	b := protect(sel("10.1.0.0/24", "10.2.0.0/24"))
	c := protect(sel("10.1.0.1/32", "10.2.0.1/32", 6, 0, 80))
	p := pkt("10.1.0.1", "10.2.0.1", 6, 5, 80)

	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	var done atomic.Bool
	var found atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		lookup := tab.Lookup
		if i%2 == 1 {
			lookup = tab.NewCache().Lookup
		}
		wg.Go(func() {
			for !done.Load() {
				if e := lookup(&p); e != nil {
					found.Add(1)
					if e.ID.IsMagic() {
						t.Error("a packet passed that never might")
						return
					}
				}
			}
		})
	}
	// Other eroutes make the hash tables and the lists of shapes grow and shrink.
	var others []klips.Eroute
	for i := range uint32(300) {
		others = append(others, protect(klips.Selector{
			Src: netip.PrefixFrom(addr4(0x0a010000+i), 32-int(i%3)).Masked(), Dst: netip.PrefixFrom(addr4(0x0b000000+i<<8), 24-int(i%7)).Masked(),
		}))
	}
	rounds := 400
	if testing.Short() {
		rounds = 60
	}
	for i := range rounds {
		must(tab.Add(a))
		must(tab.Add(pass))
		must(tab.Add(b))
		_, err := tab.Delete(a.Selector)
		must(err)
		must(tab.Add(c))
		_, err = tab.Replace(c)
		must(err)
		_, err = tab.Delete(b.Selector)
		must(err)
		must(tab.Add(a))
		_, err = tab.Delete(c.Selector)
		must(err)
		if i%3 == 0 {
			for _, o := range others {
				_, err := tab.Replace(o)
				must(err)
			}
			for _, o := range others {
				tab.Delete(o.Selector)
			}
		}
		if i%2 == 0 {
			tab.Clear()
			continue
		}
		_, err = tab.Delete(pass.Selector)
		must(err)
		_, err = tab.Delete(a.Selector)
		must(err)
	}
	done.Store(true)
	wg.Wait()
	if found.Load() == 0 {
		t.Error("the readers found nothing")
	}
}

package sadb

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
)

// inParts reads the whole listing in parts of n SAs.
func inParts(db *DB, n int) (all []*SA) {
	var p Place
	for part := make([]*SA, n); ; {
		got, last := db.After(p, part)
		all, p = append(all, part[:got]...), last
		if got < n {
			return all
		}
	}
}

// TestAfterWhileChanging changes the SAs between the parts of a listing. An SA that exists
// all the time is listed exactly once, also if it is updated. No other is listed twice,
// unless it was made again.
func TestAfterWhileChanging(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := New()
		// Three buckets of eight SAs.
		spec := func(i int) *klips.SASpec {
			return &klips.SASpec{ID: klips.SAID{
				Dst: netip.MustParseAddr("10.9.0.1"), SPI: klips.SPI(0x1000 + i/8 + i%8*0x01010000), Proto: klips.ProtoTun,
			}, Src: netip.MustParseAddr("10.9.0.2")}
		}
		const all = 24
		add := func(i int) {
			if _, err := db.Add(spec(i), klips.Outbound, 0, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i := range all {
			if rapid.Bool().Draw(t, "there") {
				add(i)
			}
		}
		stays, again := map[klips.SAID]bool{}, map[klips.SAID]bool{}
		for _, sa := range db.All() {
			stays[sa.ID] = true
		}
		listed := map[klips.SAID]int{}
		var p Place
		for part := make([]*SA, rapid.IntRange(1, 5).Draw(t, "part")); ; {
			n, last := db.After(p, part)
			for _, sa := range part[:n] {
				listed[sa.ID]++
			}
			if p = last; n < len(part) {
				break
			}
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				s := spec(rapid.IntRange(0, all-1).Draw(t, "SA"))
				switch there := db.Lookup(s.ID); {
				case there == nil:
					if _, err := db.Add(s, klips.Outbound, 0, nil); err != nil {
						t.Fatal(err)
					}
					again[s.ID] = true
				case rapid.Bool().Draw(t, "update"):
					old, _, err := db.Update(s, klips.Outbound, nil)
					if err != nil {
						t.Fatal(err)
					}
					old.Retire()
				default:
					if _, err := db.Delete(s.ID); err != nil {
						t.Fatal(err)
					}
					delete(stays, s.ID)
				}
			}
		}
		for id := range stays {
			if listed[id] != 1 {
				t.Fatalf("%v is listed %d times, want once", id, listed[id])
			}
		}
		for id, n := range listed {
			if n > 1 && !again[id] {
				t.Fatalf("%v is listed %d times", id, n)
			}
		}
	})
}

// TestRemovedHasNoLinks: a removed SA does not keep its former neighbours in memory, and
// their keys with them.
func TestRemovedHasNoLinks(t *testing.T) {
	db := New()
	for i := range klips.SPI(3) {
		id := klips.SAID{Dst: netip.MustParseAddr("10.9.0.1"), SPI: 0x1000 + i*0x01010000, Proto: klips.ProtoTun}
		if _, err := db.Add(&klips.SASpec{ID: id}, klips.Outbound, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	l := db.All()
	if len(l) != 3 || l[1].link != (link{l[0], l[2]}) {
		t.Fatalf("three SAs of one bucket are not one list: %v", l)
	}
	gone, err := db.Delete(l[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	old, sa, err := db.SetPorts(l[0].ID, 4500, 4500)
	if err != nil {
		t.Fatal(err)
	}
	if got := db.All(); !slices.Equal(got, []*SA{sa, l[2]}) {
		t.Fatalf("the listing is %v", got)
	}
	for _, sa := range append(append(gone, old), db.Flush()...) {
		if sa.link != (link{}) {
			t.Errorf("%v is removed and still linked", sa.ID)
		}
	}
}

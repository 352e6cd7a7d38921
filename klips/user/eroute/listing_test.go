package eroute

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// TestAfter reads tables in parts.
func TestAfter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		tab := New()
		for range r.IntN(60) {
			tab.Replace(klips.Eroute{Selector: randSelector(r)})
		}
		want, n := tab.All(), 1+r.IntN(8)
		var got []*Entry
		var place klips.Selector
		for {
			part := tab.After(place, n)
			got = append(got, part...)
			if len(part) < n {
				break
			}
			place = part[n-1].Selector()
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in parts of %d there are %d eroutes, want %d in the same order", n, len(got), len(want))
		}
		// A place is valid without its eroute.
		if len(want) > 1 {
			i := r.IntN(len(want))
			tab.Remove(want[i])
			if got := tab.After(want[i].Selector(), len(want)); !slices.Equal(got, want[i+1:]) {
				t.Fatalf("after eroute %d, which is removed, there are %d, want %d", i, len(got), len(want)-i-1)
			}
		}
	}
}

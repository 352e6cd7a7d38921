package arrange

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSort(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	byTens := func(a, b int) int { return a/10 - b/10 }
	for n := range 100 {
		l := make([]int, n)
		for i := range l {
			l[i] = r.IntN(100)
		}
		want := slices.Clone(l)
		slices.SortStableFunc(want, byTens)
		got := slices.Clone(l)
		if Stable(got, byTens); !slices.Equal(got, want) {
			t.Fatalf("Stable(%v) = %v, want %v", l, got, want)
		}
		if Sort(l, byTens); !slices.IsSortedFunc(l, byTens) {
			t.Fatalf("Sort leaves %v", l)
		}
	}
}

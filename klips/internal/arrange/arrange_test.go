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

// The groups have all elements, each those that are alike. The first has the first element.
func TestGroups(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		l := make([]int, n)
		var firsts []int
		count := map[int]int{}
		for i := range l {
			l[i] = rnd.IntN(1 + n/4)
			if count[l[i]]++; count[l[i]] == 1 {
				firsts = append(firsts, l[i])
			}
		}
		var seen []int
		Groups(l, func(a, b *int) bool { return *a == *b }, func(g []int) {
			seen = append(seen, g[0])
			for _, v := range g {
				if v != g[0] || len(g) != count[v] {
					t.Fatalf("group %v, of %d with %d", g, g[0], count[g[0]])
				}
			}
		})
		if len(seen) != len(firsts) || n > 0 && seen[0] != firsts[0] {
			t.Errorf("groups of %v, want of %v", seen, firsts)
		}
	}
}

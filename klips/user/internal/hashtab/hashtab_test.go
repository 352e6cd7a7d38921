package hashtab

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type elem struct{ key, val int }

// TestModel compares a table with a map under random changes. A small number of hashes
// makes searches long.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tab Table[int, elem]
		model := map[int]*elem{}
		hashes := uint64(rapid.SampledFrom([]int{1, 3, 1 << 20}).Draw(t, "hashes"))
		hash := func(k int) uint64 { return uint64(k) * 0x9e3779b97f4a7c15 % hashes }
		find := func(k int) *elem {
			return tab.Find(hash(k), &k)
		}
		key := rapid.IntRange(0, 200)
		for range rapid.IntRange(0, 600).Draw(t, "steps") {
			k := key.Draw(t, "key")
			switch op := rapid.IntRange(0, 99).Draw(t, "op"); {
			case op < 55 && model[k] == nil:
				model[k] = &elem{k, 0}
				tab.Insert(hash(k), k, model[k])
			case op < 65 && model[k] != nil:
				e := &elem{k, model[k].val + 1}
				tab.Replace(hash(k), model[k], e)
				model[k] = e
			case op < 98 && model[k] != nil:
				tab.Remove(hash(k), model[k])
				delete(model, k)
			case op == 99:
				tab.Clear()
				clear(model)
			}
			if got, want := find(k), model[k]; got != want {
				t.Fatalf("Find(%d) = %v, want %v", k, got, want)
			}
		}
		for k := range 201 {
			if got, want := find(k), model[k]; got != want {
				t.Fatalf("Find(%d) = %v, want %v", k, got, want)
			}
		}
		if got, want := tab.Len(), len(model); got != want {
			t.Fatalf("Len() = %d, want %d", got, want)
		}
		var got []int
		for e := range tab.All() {
			got = append(got, e.key)
		}
		slices.Sort(got)
		if d := cmp.Diff(got, slices.Sorted(maps.Keys(model))); d != "" {
			t.Fatalf("All() differs (-got +want):\n%s", d)
		}
	})
}

// TestReaders has readers search for elements that are always there, while others are
// inserted and removed around them and the slots are often reallocated.
func TestReaders(t *testing.T) {
	var tab Table[int, elem]
	const stay = 50
	for k := range stay {
		tab.Insert(uint64(k%7), k, &elem{key: k})
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				k := i % stay
				if e := tab.Find(uint64(k%7), &k); e == nil || e.key != k {
					t.Errorf("Find(%d) = %v", k, e)
					return
				}
			}
		})
	}
	for range 30 {
		var list []*elem
		for k := range 1000 {
			e := &elem{key: stay + k}
			list = append(list, e)
			tab.Insert(uint64(k%97), e.key, e)
		}
		for k, e := range list {
			tab.Remove(uint64(k%97), e)
		}
	}
	close(done)
	wg.Wait()
}

func TestFindAllocs(t *testing.T) {
	var tab Table[int, elem]
	for k := range 100 {
		tab.Insert(uint64(k), k, &elem{key: k})
	}
	k := 0
	n := testing.AllocsPerRun(1000, func() {
		k = (k + 1) % 100
		if tab.Find(uint64(k), &k) == nil {
			t.Error("not found")
		}
	})
	if n != 0 {
		t.Errorf("Find allocates %v times", n)
	}
}

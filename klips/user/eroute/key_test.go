package eroute

import (
	"math/rand/v2"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// TestKeys: a key has all that its selector has, and sorts like it.
func TestKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	before := randSelector(r)
	for range 10_000 {
		s := randSelector(r)
		k, b := toKey(&s), toKey(&before)
		if got := k.selector(); got != s {
			t.Fatalf("the key of %v has the selector %v", s, got)
		}
		if got, want := k.compare(&b), klips.CompareSelectors(s, before); got != want {
			t.Fatalf("%v compared with %v = %d, want %d", s, before, got, want)
		}
		before = s
	}
}

package spare

import (
	"sync"
	"testing"
)

// A value has one user at a time, and is used again.
func TestPool(t *testing.T) {
	made := 0
	p := New(func() *int { made++; return new(int) })
	a, b := p.Get(), p.Get()
	if a == b {
		t.Error("two calls have one value")
	}
	p.Put(a)
	if c := p.Get(); c != a {
		t.Error("what was given back is not used again")
	}
	p.Put(a)
	p.Put(b)
	if made != 2 {
		t.Errorf("%d values were made, want 2", made)
	}
	if n := testing.AllocsPerRun(100, func() { p.Put(p.Get()) }); n != 0 {
		t.Errorf("Get and Put allocate %v times", n)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				v := p.Get()
				*v++ // a second user would be a race
				p.Put(v)
			}
		})
	}
	all.Wait()
	if made > 4 {
		t.Errorf("%d values were made for 4 users", made)
	}
}

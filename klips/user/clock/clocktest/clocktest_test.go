package clocktest

import (
	"slices"
	"testing"
	"time"
)

// Functions are called at their times and in their order, including those added during
// Advance; a stopped one is not called.
func TestAdvance(t *testing.T) {
	c := New()
	begin := c.Now()
	var got []time.Duration
	note := func() { got = append(got, c.Now().Sub(begin)) }
	c.AfterFunc(3*time.Second, note)
	c.AfterFunc(time.Second, func() {
		note()
		c.AfterFunc(time.Second, note)
		c.AfterFunc(10*time.Second, note)
	})
	stopped := c.AfterFunc(2*time.Second, note)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop must return true once")
	}
	c.Advance(3 * time.Second)
	if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(got, want) {
		t.Errorf("called after %v, want %v", got, want)
	}
	if d := c.Now().Sub(begin); d != 3*time.Second || c.Timers() != 1 {
		t.Errorf("the clock shows %v with %d timers, want 3s with 1", d, c.Timers())
	}
	if d, ok := c.Next(); d != 8*time.Second || !ok {
		t.Errorf("Next = %v, %v, want 8s", d, ok)
	}
	c.Advance(time.Minute)
	if d, ok := c.Next(); ok {
		t.Errorf("Next = %v without timers", d)
	}
	if len(got) != 4 || got[3] != 11*time.Second {
		t.Errorf("the last call was after %v, want 11s", got[len(got)-1])
	}
}

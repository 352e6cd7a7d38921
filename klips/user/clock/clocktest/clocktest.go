// Package clocktest is a clock for tests: it stands still until it is advanced.
package clocktest

import (
	"slices"
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips/user/clock"
)

// A Clock is a clock.Clock that a test advances. Use New to make one.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*timer // in the order of creation
}

var _ clock.Clock = (*Clock)(nil)

// New returns a clock that shows noon of an arbitrary day.
func New() *Clock {
	return &Clock{now: time.Date(2020, time.February, 2, 12, 0, 0, 0, time.UTC)}
}

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc makes a later Advance call f.
func (c *Clock) AfterFunc(d time.Duration, f func()) clock.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{clock: c, at: c.now.Add(d), f: f}
	c.timers = append(c.timers, t)
	return t
}

// Advance advances the clock by d. It calls the functions that become due one after the
// other, in the order of their times, each while the clock shows its time; all have
// returned when Advance does. Only one goroutine may call Advance at a time, and none
// of these functions may.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		t := c.nextLocked(end)
		if t == nil {
			break
		}
		if t.at.After(c.now) {
			c.now = t.at
		}
		c.mu.Unlock()
		t.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}

// nextLocked removes the timer that is due first, not after end; nil if there is none.
func (c *Clock) nextLocked(end time.Time) *timer {
	var first *timer
	for _, t := range c.timers {
		if !t.at.After(end) && (first == nil || t.at.Before(first.at)) {
			first = t
		}
	}
	c.removeLocked(first)
	return first
}

func (c *Clock) removeLocked(t *timer) bool {
	i := slices.Index(c.timers, t)
	if i >= 0 {
		c.timers = slices.Delete(c.timers, i, i+1)
	}
	return i >= 0
}

// Next returns how long it is until the next pending call; false: there is none.
func (c *Clock) Next() (d time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.timers {
		if left := t.at.Sub(c.now); !ok || left < d {
			d, ok = left, true
		}
	}
	return d, ok
}

// Timers returns the number of pending calls.
func (c *Clock) Timers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

type timer struct {
	clock *Clock
	at    time.Time
	f     func()
}

func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.clock.removeLocked(t)
}

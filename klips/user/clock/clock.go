// Package clock is where the embedded stack gets the time from. Tests give it a
// clock that they turn by hand (package clocktest).
package clock

import "time"

// A Clock returns the time and calls functions later. Its methods may be called
// from any goroutine.
type Clock interface {
	// Now returns the time, which never goes back.
	Now() time.Time
	// AfterFunc calls f, not in the caller's goroutine, when d has passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// A Timer is a call that AfterFunc has promised.
type Timer interface {
	// Stop takes the promise back. It returns false if the call has begun or has
	// been stopped before.
	Stop() bool
}

// System is the clock of this machine.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// Package clock is the embedded stack's source of time. Tests use a clock that they
// advance (package clocktest).
package clock

import "time"

// A Clock returns the time and calls functions later. Its methods may be called
// from any goroutine.
type Clock interface {
	// Now returns the time, which never goes back.
	Now() time.Time
	// AfterFunc calls f, in another goroutine, when d has passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// A Timer is a pending call of AfterFunc.
type Timer interface {
	// Stop cancels the call. It returns false if the call has begun or was stopped
	// before.
	Stop() bool
}

// System is the clock of this machine.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

package lab

import (
	"errors"
	"time"
)

// ErrTimeout is the error of Await.
var ErrTimeout = errors.New("it did not happen within a minute")

// Await calls f repeatedly until it returns true. It is for actions of the kernel and
// of other processes that send no event. After a minute, far more than a busy machine
// needs, it returns ErrTimeout.
func Await(f func() bool) error {
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return ErrTimeout
		}
	}
	return nil
}

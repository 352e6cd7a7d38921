package lab

import (
	"errors"
	"time"
)

// ErrTimeout is the error of Await.
var ErrTimeout = errors.New("it did not happen within a minute")

// Await asks f again and again until it is true. It is for what the kernel and other
// processes do in their own time, and gives no event for. After a minute, which is
// far more than a busy machine takes, it returns ErrTimeout.
func Await(f func() bool) error {
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return ErrTimeout
		}
	}
	return nil
}

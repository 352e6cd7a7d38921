// Package netlock keeps commands that run at the same time from changing the
// tables of one network namespace between what another one reads and what it
// changes.
package netlock

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// wait is how long a command waits for another's change, which takes
// milliseconds.
const wait = 10 * time.Second

// A Lock is a lock on a network namespace. There is no file to leave behind, and
// the lock is gone with the process. The zero value is for the namespace of the
// thread that acquires it first.
type Lock struct {
	mu sync.Mutex // a file has one lock for all goroutines
	ns *os.File
}

// Open chooses the network namespace of the calling thread.
func (l *Lock) Open() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open()
}

func (l *Lock) open() (err error) {
	if l.ns == nil {
		l.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	}
	return err
}

// Acquire waits for the lock, at most ten seconds, and returns what gives it back.
// The error is a *[klips.OpError] without an operation; it wraps that of ctx or
// context.DeadlineExceeded where others have held the lock for so long.
func (l *Lock) Acquire(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	l.mu.Lock()
	defer func() {
		if err != nil {
			l.mu.Unlock()
		}
	}()
	if err := l.open(); err != nil {
		return nil, &klips.OpError{Err: err}
	}
	fd := int(l.ns.Fd())
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() {
				_ = unix.Flock(fd, unix.LOCK_UN)
				l.mu.Unlock()
			}, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil, &klips.OpError{Err: err}
		}
		select {
		case <-ctx.Done():
			return nil, &klips.OpError{Err: ctx.Err(), Reason: "another command is changing the tables of this network namespace; try again"}
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Close closes the lock, which nobody may hold.
func (l *Lock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ns == nil {
		return nil
	}
	err := l.ns.Close()
	l.ns = nil
	return err
}

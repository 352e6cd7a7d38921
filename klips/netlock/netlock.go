// Package netlock is a lock for commands on one network namespace: while a command
// reads the tables and changes them, no other command changes them.
package netlock

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wait is how long a command waits for another's change, which takes
// milliseconds.
const wait = 10 * time.Second

// A Lock is a lock on a network namespace. It needs no file of its own, and ends with
// the process. The zero value is for the namespace of the thread that acquires it
// first.
type Lock struct {
	mu   sync.Mutex // a file has one lock for all goroutines
	ns   *os.File
	held bool // by Hold
}

// Open selects the network namespace of the calling thread.
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

// Acquire waits for the lock, at most ten seconds, and returns a function that releases
// it. Errors are those of ctx and of the system; EALREADY means that others have held the
// lock for so long.
func (l *Lock) Acquire(ctx context.Context) (release func(), err error) {
	l.mu.Lock()
	if l.held {
		return l.mu.Unlock, nil
	}
	if err := l.lock(ctx); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	return func() {
		l.unlock()
		l.mu.Unlock()
	}, nil
}

// Hold is Acquire for a longer time: until release is called, other Locks wait, but
// Acquire of this one does not. A nested Hold has no effect.
func (l *Lock) Hold(ctx context.Context) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return func() {}, nil
	}
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	l.held = true
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unlock()
		l.held = false
	}), nil
}

// lock locks the file. The caller holds mu.
func (l *Lock) lock(ctx context.Context) error {
	if err := l.open(); err != nil {
		return err
	}
	late := time.After(wait)
	for fd := int(l.ns.Fd()); ; {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return unix.EALREADY
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (l *Lock) unlock() { _ = unix.Flock(int(l.ns.Fd()), unix.LOCK_UN) }

// Close closes the lock, which must not be held.
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

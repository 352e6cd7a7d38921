package xfrm

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// lockWait is how long a command waits for another's change, which takes
// milliseconds.
const lockWait = 10 * time.Second

// namespace opens the network namespace of the calling thread.
func namespace() (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
}

// lock keeps other commands from changing the tables of a network namespace.
// The lock is on the namespace itself: there is no file to leave behind, and it
// is gone with the process.
func lock(ctx context.Context, ns *os.File) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(ns.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { unix.Flock(int(ns.Fd()), unix.LOCK_UN) }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, &klips.OpError{Err: ctx.Err(), Reason: "another command is changing the tables of this network namespace; try again"}
		case <-time.After(2 * time.Millisecond):
		}
	}
}

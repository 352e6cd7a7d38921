package helper

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Duties are what a helper does.
type Duties struct {
	// Moved does what a change of addresses or of the default route needs. If ctx
	// ends, it takes back what it has begun. Calls do not overlap.
	Moved func(ctx context.Context) error
	// Port opens a UDP port. The helper closes the descriptor.
	Port func(family int, port uint16) (fd int, err error)
	// TUN opens the file for TUN devices. The helper closes the descriptor.
	TUN func() (fd int, err error)
	// Remove removes the daemon's files; socket: also the socket.
	Remove func(socket bool)
}

// Serve serves the daemon at the other end of a socket, which it closes, until the
// daemon has ended. Requests that are not complete then are cancelled.
func Serve(f *os.File, d Duties) error {
	c, err := conn(f)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var moving sync.Mutex
	for {
		b, fd, err := read(c, requestLen)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrClosed), errors.Is(err, syscall.ECONNRESET):
			return nil
		case err != nil:
			return err
		case fd < 0:
			continue // nobody waits for an answer
		}
		answer, err := conn(os.NewFile(uintptr(fd), "answer"))
		if err != nil {
			continue
		}
		r, err := decode(b)
		if err != nil {
			respond(answer, syscall.EINVAL, -1)
			answer.Close()
			continue
		}
		wg.Go(func() {
			defer answer.Close()
			if r.kind == kindMoved {
				moving.Lock()
				defer moving.Unlock()
			}
			fd, err := d.do(ctx, answer, r)
			respond(answer, err, fd)
			if fd >= 0 {
				unix.Close(fd)
			}
		})
	}
}

// do carries out a request. fd is -1 if the answer has no descriptor.
func (d Duties) do(ctx context.Context, answer *net.UnixConn, r request) (fd int, err error) {
	switch r.kind {
	case kindPort:
		return d.Port(r.family, r.port)
	case kindTUN:
		return d.TUN()
	case kindRemove:
		d.Remove(r.socket)
		return -1, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // until the daemon, or the caller, closes the socket
		_, _, _ = read(answer, 0)
		cancel()
	}()
	return -1, d.Moved(ctx)
}

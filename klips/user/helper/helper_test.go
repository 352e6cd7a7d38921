package helper

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serve starts a helper, and returns the daemon's end and what Serve returns.
func serve(t *testing.T, d Duties) (*Client, <-chan error) {
	t.Helper()
	own, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	done := make(chan error, 1)
	go func() { done <- Serve(theirs, d) }()
	return c, done
}

// A descriptor arrives as it was opened, and an error as its errno.
func TestPort(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	c, _ := serve(t, Duties{Port: func(family int, port uint16) (int, error) {
		if family != unix.AF_INET6 || port != 500 {
			return -1, unix.EADDRINUSE
		}
		return pipe[1], nil
	}})
	if fd, err := c.Port(unix.AF_INET, 500); fd >= 0 || !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Port = %d, %v, want EADDRINUSE", fd, err)
	}
	fd, err := c.Port(unix.AF_INET6, 500)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v, want FD_CLOEXEC", flags, err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Error(err)
	}
	unix.Close(fd)
	// The end of the pipe arrives only if the helper has closed its own descriptor.
	b := make([]byte, 2)
	for _, want := range []int{1, 0} {
		if n, err := unix.Read(pipe[0], b); n != want || err != nil {
			t.Errorf("read = %d, %v, want %d", n, err, want)
		}
	}
}

func TestTUNAndRemove(t *testing.T) {
	removed := make(chan bool, 2)
	c, _ := serve(t, Duties{
		TUN:    func() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) },
		Remove: func(socket bool) { removed <- socket },
	})
	fd, err := c.TUN()
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	for _, want := range []bool{true, false} {
		if err := c.Remove(want); err != nil {
			t.Fatal(err)
		}
		if got := <-removed; got != want {
			t.Errorf("removed with %v, want %v", got, want)
		}
	}
}

// While one request is at work, others are answered: it may depend on them.
func TestMovedNeedsAPort(t *testing.T) {
	var c *Client
	asked, started := make(chan error, 1), make(chan struct{})
	c, _ = serve(t, Duties{
		Moved: func(context.Context) error {
			<-started
			_, err := c.Port(unix.AF_INET, 1)
			asked <- err
			return nil
		},
		Port: func(int, uint16) (int, error) { return -1, unix.EACCES },
	})
	close(started)
	if err := c.Moved(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-asked; !errors.Is(err, unix.EACCES) {
		t.Errorf("Port = %v, want EACCES", err)
	}
}

// Moved returns only after the helper has taken back what it had begun.
func TestCancel(t *testing.T) {
	begun := make(chan struct{})
	var undone atomic.Bool
	c, _ := serve(t, Duties{Moved: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		undone.Store(true)
		return syscall.ECANCELED
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if err := c.Moved(ctx); !errors.Is(err, syscall.ECANCELED) {
		t.Errorf("Moved = %v, want ECANCELED", err)
	}
	if !undone.Load() {
		t.Error("Moved returns too early")
	}
}

// The helper ends with the daemon, and cancels what it does then.
func TestEnd(t *testing.T) {
	begun := make(chan struct{})
	c, done := serve(t, Duties{Moved: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}})
	go c.Moved(context.Background())
	<-begun
	c.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve = %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the helper does not end")
	}
}

// What is no request is refused, and the helper goes on.
func TestGarbage(t *testing.T) {
	c, _ := serve(t, Duties{Port: func(int, uint16) (int, error) { return -1, unix.EACCES }})
	for _, b := range []string{"p", "x12345", "p\x02\x00\x02\x01\xf4", "p\x00\x00\x07\x01\xf4", "p\x00\x00\x02\x00\x00", "much longer than a request"} {
		own, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.c.WriteMsgUnix([]byte(b), unix.UnixRights(int(theirs.Fd())), nil)
		theirs.Close()
		if err != nil {
			t.Fatal(err)
		}
		answer, fd, err := read(own, answerLen)
		if err != nil || fd >= 0 || string(answer) != "\x00\x00\x00\x16" {
			t.Errorf("%q is answered with %x, %d, %v, want EINVAL", b, answer, fd, err)
		}
		own.Close()
	}
	// A request without a socket for the answer, and one with a descriptor that is none.
	if _, err := c.c.Write(request{kind: kindTUN}.encode()); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, _, err := c.c.WriteMsgUnix(request{kind: kindTUN}.encode(), unix.UnixRights(int(null.Fd()), int(null.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Port(unix.AF_INET, 500); !errors.Is(err, unix.EACCES) {
		t.Errorf("Port = %v, want EACCES", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []request{{kind: kindMoved}, {kind: kindTUN}, {kind: kindRemove, socket: true}, {kind: kindPort, family: unix.AF_INET, port: 500}} {
		f.Add(r.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		if got := r.encode(); string(got) != string(b) {
			t.Errorf("%x is read as %+v, which is written as %x", b, r, got)
		}
	})
}

package pfkey_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// listenAs makes a socket on which a user listens. It skips the test if this process
// cannot act as that user.
func listenAs(t *testing.T, uid int) (path string, fd int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		// The kernel records the user that calls listen(2). The thread has its own
		// user, and ends with its goroutine, which never unlocks it.
		runtime.LockOSThread()
		id := uintptr(uid)
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); e != 0 {
			done <- e
			return
		}
		done <- unix.Listen(fd, 5)
	}()
	err = <-done
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) { // EINVAL: a user namespace has no such user
		skip.Without(t, skip.Users, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, fd
}

// A connection to another user's socket is closed before anything is sent.
func TestDialStranger(t *testing.T) {
	path, fd := listenAs(t, 4711)
	c, err := pfkey.Dial(path)
	if err == nil {
		c.Close()
	}
	var e *pfkey.PeerError
	if !errors.As(err, &e) || e.UID != 4711 || !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("Dial = %v, want a PeerError of uid 4711", err)
	}
	if !strings.Contains(err.Error(), "uid 4711") || !strings.Contains(err.Error(), path) {
		t.Errorf("Dial = %v, want the user and the path", err)
	}
	conn, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(conn)
	_ = unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(time.Minute / time.Second)})
	if n, err := unix.Read(conn, make([]byte, 100)); n != 0 || err != nil {
		t.Errorf("the stranger read %d bytes, %v; want the end", n, err)
	}
}

func TestDialOwn(t *testing.T) {
	path, _ := listenAs(t, os.Geteuid())
	c, err := pfkey.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if pid := c.PeerPID(); pid != os.Getpid() {
		t.Errorf("PeerPID = %d, want %d", pid, os.Getpid())
	}
}

func TestDialTooLong(t *testing.T) {
	path := "/" + strings.Repeat("x", 107)
	if _, err := pfkey.Dial(path); !errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(err.Error(), "108 bytes") {
		t.Errorf("Dial = %v, want ENAMETOOLONG and the length", err)
	}
	if _, err := pfkey.Dial(path[:107]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dial of 107 bytes = %v, want %v", err, fs.ErrNotExist)
	}
}

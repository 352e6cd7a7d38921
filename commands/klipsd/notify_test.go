package klipsd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listenManager is a service manager's socket.
func listenManager(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestNotify: the messages reach a socket with a path and one of the abstract address
// space, as single datagrams.
func TestNotify(t *testing.T) {
	for _, address := range []string{
		filepath.Join(t.TempDir(), "notify"),
		fmt.Sprintf("@ipsec-test-notify-%d", os.Getpid()),
	} {
		c := listenManager(t, address)
		fd, err := dialManager(address)
		if err != nil {
			t.Fatal(err)
		}
		m := openManager(fd)
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: flags %#x, %v, want close on exec", address, flags, err)
		}
		if err := m.ready("version 1"); err != nil {
			t.Fatal(err)
		}
		if err := m.stopping(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			fmt.Sprintf("READY=1\nSTATUS=version 1\nMAINPID=%d", os.Getpid()),
			"STOPPING=1\nSTATUS=stopping",
		} {
			b := make([]byte, 1000)
			n, err := c.Read(b)
			if got := string(b[:n]); err != nil || got != want {
				t.Errorf("%s: the manager gets %q, %v, want %q", address, got, err, want)
			}
		}
		unix.Close(fd)
	}
}

// TestNotifyDeaf: a manager that does not read does not hold up the daemon.
func TestNotifyDeaf(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	listenManager(t, address)
	fd, err := dialManager(address)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m := openManager(fd)
	for range 1 << 20 {
		if err = m.stopping(); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "service manager") {
		t.Errorf("a socket that is never read: %v, want that there is no room", err)
	}
}

// TestNoManager: without an address there is no manager, and a wrong address is named.
func TestNoManager(t *testing.T) {
	if fd, err := dialManager(""); fd != -1 || err != nil {
		t.Errorf("dialManager of nothing = %d, %v, want -1", fd, err)
	}
	if m := openManager(-1); m != nil || m.ready("x") != nil || m.stopping() != nil {
		t.Error("a manager that does not exist refuses messages")
	}
	missing := filepath.Join(t.TempDir(), "missing")
	for address, want := range map[string]string{
		"/":                            "not the address of a Unix socket",
		"notify":                       "not the address of a Unix socket",
		"vsock:2:1234":                 "not the address of a Unix socket",
		missing:                        "no such file",
		"/" + strings.Repeat("x", 200): "invalid argument",
	} {
		fd, err := dialManager(address)
		if fd != -1 || err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET="+address+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("dialManager(%q) = %d, %v, want %q", address, fd, err, want)
		}
	}
}

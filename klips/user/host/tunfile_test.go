package host

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that is not a TUN device is refused with its type, and not opened.
func TestOpenTUN(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(in("file"), nil, 0o600))
	must(os.Symlink("nowhere", in("dangling")))
	must(os.Symlink("/dev/null", in("link")))
	must(unix.Mkfifo(in("fifo"), 0o600))
	ln, err := net.Listen("unix", in("socket"))
	must(err)
	defer ln.Close()
	for _, tt := range []struct{ path, want string }{
		{in("missing"), "it is missing"},
		{in("missing/tun"), "it is missing"},
		{in("dangling"), "it is a link to a file that is missing"},
		{in("file/tun"), "it is missing, because " + in("file") + " is not a directory"},
		{in("file"), "it is not a TUN device but a regular file"},
		{dir, "it is not a TUN device but a directory"},
		{in("fifo"), "it is not a TUN device but a named pipe"},
		{in("socket"), "it is not a TUN device but a socket"},
		{"/dev/null", "it is not a TUN device (character device 10:200) but another one (1:3)"},
		{in("link"), "it is not a TUN device (character device 10:200) but another one (1:3)"},
	} {
		fd, err := openTUN(tt.path)
		if err == nil {
			unix.Close(fd)
		}
		var e *TUNError
		if !errors.As(err, &e) || e.Error() != tt.path+": "+tt.want || !errors.Is(err, syscall.ENODEV) {
			t.Errorf("openTUN(%s) = %v, want %s", tt.path, err, tt.want)
		}
	}
}

// Errors of the kernel get texts with the file's name.
func TestCreateError(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{unix.EPERM, "/dev/net/tun: making ipsec0 is not permitted (CAP_NET_ADMIN is needed)"},
		{unix.EINVAL, "/dev/net/tun: it does not make ipsec0: invalid argument"},
		{unix.EBUSY, "ipsec0: device or resource busy"},
	} {
		err := createError("/dev/net/tun", "ipsec0", tt.err)
		if err.Error() != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("createError(%v) = %q, want %q", tt.err, err, tt.want)
		}
	}
}

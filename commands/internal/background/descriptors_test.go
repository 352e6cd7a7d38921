package background

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCloseOnExec: each method marks all descriptors except the standard ones, whatever
// their numbers.
func TestCloseOnExec(t *testing.T) {
	for name, mark := range map[string]func() error{
		"as ever":       CloseOnExec,
		"one by one":    func() error { return closeEachOnExec("/proc/self/fd") },
		"without /proc": func() error { return closeEachOnExec(filepath.Join(t.TempDir(), "none")) },
	} {
		t.Run(name, func(t *testing.T) {
			fds := []int{70, 255}
			for _, fd := range fds {
				if err := unix.Dup3(0, fd, 0); err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
			}
			if err := mark(); err != nil {
				t.Fatal(err)
			}
			for _, fd := range fds {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor %d has flags %#x, %v", fd, flags, err)
				}
			}
			for fd := range 3 {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
					t.Errorf("standard descriptor %d is marked", fd)
				}
			}
		})
	}
}

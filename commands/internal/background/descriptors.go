package background

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is the first file descriptor after the standard ones.
const firstFD = 3

// CloseOnExec marks the file descriptors that this process has inherited as
// close-on-exec, so that programs it starts do not inherit them: the lock of a script,
// for example, or the end of a pipe. Go opens its own files close-on-exec.
func CloseOnExec() error {
	err := unix.CloseRange(firstFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == unix.ENOSYS || err == unix.EINVAL || err == unix.EPERM { // before Linux 5.11, or forbidden by a seccomp filter
		return closeEachOnExec("/proc/self/fd")
	}
	return err
}

// closeEachOnExec does the same one by one, for the descriptors listed in dir. Without
// /proc it goes up to the limit of open files.
func closeEachOnExec(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries {
			if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= firstFD {
				unix.CloseOnExec(fd)
			}
		}
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	for fd := firstFD; uint64(fd) < limit.Cur && fd < maxFD; fd++ {
		unix.CloseOnExec(fd)
	}
	return nil
}

// maxFD ends the search where there is no limit. It is the default of fs.nr_open.
const maxFD = 1 << 20

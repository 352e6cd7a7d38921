package background

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is the first file descriptor after the standard ones.
const firstFD = 3

// closeOnExec keeps the file descriptors that this process was started with,
// such as the lock of a script or the end of a pipe, from the programs that it
// starts. Those that it opened itself are closed on exec anyway.
func closeOnExec() error {
	err := unix.CloseRange(firstFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == unix.ENOSYS || err == unix.EINVAL || err == unix.EPERM { // before Linux 5.11, or kept from it by a filter
		return closeEachOnExec("/proc/self/fd")
	}
	return err
}

// closeEachOnExec does the same one by one, as they are listed in dir; without
// /proc, up to the limit of open files.
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

// maxFD ends the search where there is no limit; fs.nr_open is as large.
const maxFD = 1 << 20

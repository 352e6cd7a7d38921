package host

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// TUNPath is the file that makes TUN devices: a character device of the misc driver
// (Documentation/networking/tuntap.rst in Linux).
const TUNPath = "/dev/net/tun"

const (
	tunMajor = 10
	tunMinor = 200
)

// A TUNError is the reason why no TUN device can be made with a file.
type TUNError struct {
	Path string
	Why  string // as in "it is missing"
	// Err is unix.EPERM or unix.EACCES if only the right is missing, unix.ENODEV if the
	// file has no TUN driver, else the system's error.
	Err error
}

func (e *TUNError) Error() string { return e.Path + ": " + e.Why }
func (e *TUNError) Unwrap() error { return e.Err }

// openTUN opens the file and checks that it belongs to the TUN driver. It does not open
// other device files, because opening can act on a device.
func openTUN(file string) (fd int, err error) {
	fail := func(err error, format string, args ...any) (int, error) {
		return -1, &TUNError{file, fmt.Sprintf(format, args...), err}
	}
	var st unix.Stat_t
	switch err := unix.Stat(file, &st); err {
	case nil:
	case unix.ENOENT:
		if unix.Lstat(file, &st) == nil {
			return fail(unix.ENODEV, "it is a link to a file that is missing")
		}
		return fail(unix.ENODEV, "it is missing")
	case unix.ENOTDIR:
		return fail(unix.ENODEV, "it is missing, because %s is not a directory", path.Dir(file))
	default:
		return fail(err, "%v", err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR {
		return fail(unix.ENODEV, "it is not a TUN device but a %s", kindName(kind))
	}
	if major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev); major != tunMajor || minor != tunMinor {
		return fail(unix.ENODEV, "it is not a TUN device (character device %d:%d) but another one (%d:%d)", tunMajor, tunMinor, major, minor)
	}
	fd, err = unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENODEV, unix.ENXIO, unix.ENOENT:
		return fail(unix.ENODEV, "the kernel has no TUN driver for it (%v)", err)
	case unix.EACCES, unix.EPERM:
		return fail(err, "it may not be opened (%v)", err)
	default:
		return fail(err, "%v", err)
	}
	if _, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES); err != nil {
		unix.Close(fd)
		return fail(unix.ENODEV, "what is behind it is not the TUN driver (%v)", err)
	}
	return fd, nil
}

// kindName returns the name of a type of files other than character devices.
func kindName(kind uint32) string {
	switch kind {
	case unix.S_IFREG:
		return "regular file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFLNK:
		return "symbolic link"
	}
	return ""
}

// createError adds the reason to a failure of TUNSETIFF.
func createError(file, name string, err error) error {
	switch err {
	case unix.EPERM:
		return &TUNError{file, "making " + name + " is not permitted (CAP_NET_ADMIN is needed)", err}
	case unix.EBUSY, unix.EEXIST:
		return fmt.Errorf("%s: %w", name, err)
	}
	return &TUNError{file, fmt.Sprintf("it does not make %s: %v", name, err), err}
}

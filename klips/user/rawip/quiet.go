package rawip

import (
	"os"

	"golang.org/x/sys/unix"
)

// Quiet returns a raw socket of a protocol on a device, which nobody reads. While it is
// open, the kernel does not answer packets of this protocol from the device with
// "protocol unreachable" (RFC 1122 section 3.2.2.1) or, for IPv6, "unrecognized next
// header" (RFC 8200 section 4), because a raw socket counts as a receiver. The caller
// closes it. EAFNOSUPPORT: the host has no IPv6.
func Quiet(device string, proto uint8, v6 bool) (fd int, err error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err = openUnread(family, unix.SOCK_RAW, int(proto))
	if err != nil {
		return -1, os.NewSyscallError("raw socket", err)
	}
	if err := unix.BindToDevice(fd, device); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("raw socket", err)
	}
	return fd, nil
}

package rawip

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// openUnread opens a socket that nobody reads. Its filter refuses every packet, so none
// waits in it.
func openUnread(family, typ, proto int) (fd int, err error) {
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, err
	}
	if err := setFilter(fd, []bpf.Instruction{bpf.RetConstant{Val: none}}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

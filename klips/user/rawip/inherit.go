package rawip

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sockets returns copies of the descriptors of all sockets of the receiver. What
// arrives is queued in them, also when the receiver has been closed, for the receiver
// that they are given to. It must not be called after Release. The caller closes them.
func (r *Receiver) Sockets() (fds []int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := make([]int, 0, len(r.socks)+len(r.taken))
	for _, s := range r.socks {
		own = append(own, s.fd)
	}
	for _, fd := range r.taken {
		own = append(own, fd)
	}
	for _, fd := range own {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, os.NewSyscallError("dup", err)
		}
		fds = append(fds, dup)
	}
	return fds, nil
}

// A rawKind is what tells one raw socket of a receiver from the others.
type rawKind struct{ family, proto int }

// inherit sorts the sockets of another receiver: UDP sockets keep their ports taken,
// raw ones are returned. What is neither is closed.
func (r *Receiver) inherit(fds []int) (raw map[rawKind]int) {
	raw = map[rawKind]int{}
	for _, fd := range fds {
		k := rawKind{option(fd, unix.SO_DOMAIN), option(fd, unix.SO_PROTOCOL)}
		_, twice := raw[k]
		switch port, ok := boundPort(fd); {
		case option(fd, unix.SO_TYPE) == unix.SOCK_RAW && !twice:
			raw[k] = fd
		case option(fd, unix.SO_TYPE) == unix.SOCK_DGRAM && ok:
			r.taken[place{k.family, port}] = fd
		default:
			unix.Close(fd)
		}
	}
	return raw
}

// option returns a socket's option, -1 where the socket has none of it.
func option(fd, name int) int {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
	if err != nil {
		return -1
	}
	return v
}

func boundPort(fd int) (port uint16, ok bool) {
	sa, _ := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), true
	case *unix.SockaddrInet6:
		return uint16(sa.Port), true
	}
	return 0, false
}

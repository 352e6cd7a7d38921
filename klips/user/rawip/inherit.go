package rawip

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sockets returns copies of the descriptors of all sockets of the receiver. Packets are
// queued in them, even after the receiver was closed, for the receiver that inherits
// them. It must not be called after Release. The caller closes the copies.
func (r *Receiver) Sockets() (fds []int, err error) {
	for _, s := range r.socks {
		dup, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(fds)
			return nil, os.NewSyscallError("dup", err)
		}
		fds = append(fds, dup)
	}
	udp, err := r.ports.copies()
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return append(fds, udp...), nil
}

// A rawKind identifies a raw socket of a receiver.
type rawKind struct{ family, proto int }

// inherit sorts the sockets of another receiver. UDP sockets stay those of their ports;
// raw ones are returned; others are closed.
func (r *Receiver) inherit(fds []int) (raw map[rawKind]int) {
	raw = map[rawKind]int{}
	for _, fd := range fds {
		k := rawKind{option(fd, unix.SO_DOMAIN), option(fd, unix.SO_PROTOCOL)}
		_, twice := raw[k]
		switch port, ok := boundPort(fd); {
		case option(fd, unix.SO_TYPE) == unix.SOCK_RAW && !twice:
			raw[k] = fd
		case option(fd, unix.SO_TYPE) == unix.SOCK_DGRAM && ok:
			r.ports.adopt(place{k.family, port}, fd)
		default:
			unix.Close(fd)
		}
	}
	return raw
}

// option returns a socket's option, -1 if the socket does not have it.
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

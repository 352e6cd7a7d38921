package xfrm

import (
	"errors"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// An ESPPort is a UDP port out of whose packets the kernel takes ESP (RFC 3948),
// as long as it is held. The kernel does that for sockets only; it sends ESP in
// UDP without one.
type ESPPort struct{ sockets []int }

// HoldESPPort opens a port for ESP of that form, klips.NATTNonESP or
// klips.NATTNonIKE, in the network namespace of the calling thread, for IPv4 and,
// where the host has it, IPv6. EADDRINUSE: another program has the port. What
// comes to it and is not ESP is dropped.
func HoldESPPort(port uint16, form klips.NATTType) (*ESPPort, error) {
	p := &ESPPort{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := espSocket(family, port, form)
		if err == unix.EAFNOSUPPORT && family == unix.AF_INET6 {
			break
		}
		if err != nil {
			p.Close()
			return nil, &klips.OpError{Op: "open UDP port", Object: strconv.Itoa(int(port)), Err: err, Reason: portCause(err)}
		}
		p.sockets = append(p.sockets, fd)
	}
	return p, nil
}

func portCause(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has it; if that is a key daemon, it takes ESP out of UDP already"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are for root"
	case errors.Is(err, syscall.ENOPROTOOPT):
		return "this kernel takes no ESP out of UDP of this form"
	}
	return ""
}

func espSocket(family int, port uint16, form klips.NATTType) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		sa = &unix.SockaddrInet6{Port: int(port)}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, err
		}
	}
	// Nobody reads what is not ESP: the least room for it is enough.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
		return -1, err
	}
	// Before the port is bound, so that nothing comes to it as plain UDP.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, int(form)); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, sa)
}

// Close gives the port back.
func (p *ESPPort) Close() error {
	var err error
	for _, fd := range p.sockets {
		err = errors.Join(err, unix.Close(fd))
	}
	p.sockets = nil
	return err
}

package rawip

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// An ICMPSender sends ICMP and ICMPv6 messages. The routes of the host choose the path
// and the source address. The zero value is ready: it opens its sockets when it first
// needs them. Any goroutine may call its methods.
type ICMPSender struct {
	mu     sync.Mutex
	closed bool
	fds    [2]int // of IPv4 and IPv6, plus 1; 0: not open
}

// Send sends message m, which begins with the ICMP type, with a TOS or traffic class. It
// writes the checksum into m.
func (s *ICMPSender) Send(to netip.Addr, tos uint8, m []byte) error {
	if len(m) < 8 {
		return unix.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if to.Is4() {
		fd, err := s.openLocked(0, unix.AF_INET, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		m[2], m[3] = 0, 0
		binary.BigEndian.PutUint16(m[2:], ^packet.Fold(packet.Sum(m, 0)))
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, int(tos))
		return unix.Sendto(fd, m, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: to.As4()})
	}
	fd, err := s.openLocked(1, unix.AF_INET6, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	// The kernel computes the checksum of ICMPv6, because it chooses the source (RFC 3542
	// section 3.1).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(tos))
	return unix.Sendto(fd, m, unix.MSG_DONTWAIT, &unix.SockaddrInet6{Addr: to.As16()})
}

// openLocked returns the descriptor of socket i.
func (s *ICMPSender) openLocked(i, family, proto int) (int, error) {
	if s.closed {
		return -1, unix.EBADF
	}
	if s.fds[i] != 0 {
		return s.fds[i] - 1, nil
	}
	fd, err := openUnread(family, unix.SOCK_RAW, proto)
	if err != nil {
		return -1, err
	}
	s.fds[i] = fd + 1
	return fd, nil
}

// Close closes the sockets.
func (s *ICMPSender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for i, fd := range s.fds {
		if fd != 0 {
			unix.Close(fd - 1)
		}
		s.fds[i] = 0
	}
}

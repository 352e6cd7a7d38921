package mtu

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// echoHeader is the length in bytes of the header of an echo request (RFC 792, RFC 4443
// section 4.1).
const echoHeader = 8

// Types of ICMP and ICMPv6.
const (
	echoRequest  = 8
	echoReply    = 0
	echoRequest6 = 128
	echoReply6   = 129
)

// An echoSocket sends echo requests by a raw socket.
type echoSocket struct {
	fd  int
	dst netip.Addr
	id  uint16
	seq uint16
	buf []byte
}

// openEcho opens a raw socket, which needs CAP_NET_RAW.
func openEcho(src, dst netip.Addr) (*echoSocket, error) {
	family, proto, level, discover, how := unix.AF_INET, unix.IPPROTO_ICMP, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	errs := unix.IP_RECVERR
	if dst.Is6() {
		family, proto, level, discover, how = unix.AF_INET6, unix.IPPROTO_ICMPV6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
		errs = unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, errors.New("no right to send echo requests; run it as root (CAP_NET_RAW is needed)")
	}
	if err != nil {
		return nil, fmt.Errorf("a socket for echo requests: %w", err)
	}
	// DF is set whatever path MTU the kernel has learned.
	err = errors.Join(unix.SetsockoptInt(fd, level, discover, how), unix.SetsockoptInt(fd, level, errs, 1))
	if dst.Is6() {
		err = errors.Join(err, unix.SetsockoptInt(fd, level, unix.IPV6_DONTFRAG, 1))
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(src))
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			err = fmt.Errorf("--src %v is no address of this host, which sends the requests; leave --src out, or probe from there", src)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	var id [2]byte
	rand.Read(id[:]) // never returns an error
	return &echoSocket{fd: fd, dst: dst, id: binary.BigEndian.Uint16(id[:]), buf: make([]byte, 1<<16)}, nil
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

func (s *echoSocket) close() { unix.Close(s.fd) }

func (s *echoSocket) echo(ctx context.Context, size int) (answer, error) {
	s.seq++
	request := s.request(size)
	err := unix.Sendto(s.fd, request, 0, sockaddr(s.dst))
	var errno syscall.Errno
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		s.readError() // the same one
		return answer{reason: "this host does not send it: its device has a smaller MTU"}, nil
	case errors.As(err, &errno) && errno == unix.ENOBUFS:
	case err != nil:
		return answer{reason: "this host does not send it: " + err.Error()}, nil
	}
	deadline := time.Now().Add(perEcho)
	for {
		left := time.Until(deadline)
		if err := ctx.Err(); err != nil {
			return answer{}, err
		}
		if left <= 0 {
			return answer{reason: silence}, nil
		}
		wait := min(left, 100*time.Millisecond) // an interrupt is noticed then
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int((wait+time.Millisecond-1)/time.Millisecond))
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return answer{}, fmt.Errorf("waiting for the answer: %w", err)
		}
		if reason := s.readError(); reason != "" {
			return answer{reason: reason}, nil
		}
		n, _, err = unix.Recvfrom(s.fd, s.buf, unix.MSG_DONTWAIT)
		if err == nil && s.answers(s.buf[:n], request) {
			return answer{ok: true}, nil
		}
	}
}

// request makes an echo request for a packet of size bytes.
func (s *echoSocket) request(size int) []byte {
	header := 20
	if s.dst.Is6() {
		header = 40
	}
	b := make([]byte, max(size-header, echoHeader))
	b[0] = echoRequest
	if s.dst.Is6() {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], s.id)
	binary.BigEndian.PutUint16(b[6:], s.seq)
	for i := range b[echoHeader:] {
		b[echoHeader+i] = byte(i)
	}
	if s.dst.Is4() { // the kernel computes the checksum of ICMPv6
		binary.BigEndian.PutUint16(b[2:], ^packet.Fold(packet.Sum(b, 0)))
	}
	return b
}

// answers reports whether a received message is the answer to a request. In IPv4 it begins
// with the IP header.
func (s *echoSocket) answers(b, request []byte) bool {
	reply := byte(echoReply6)
	if s.dst.Is4() {
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return false
		}
		b, reply = b[int(b[0]&15)*4:], echoReply
	}
	return len(b) == len(request) && b[0] == reply && bytes.Equal(b[4:], request[4:])
}

// readError reads an ICMP error about a request from the error queue of the socket, and
// returns it in words; empty: there is none.
func (s *echoSocket) readError() string {
	var oob [256]byte
	_, n, _, _, err := unix.Recvmsg(s.fd, s.buf, oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return ""
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return ""
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR || m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR {
			return errorWords(m.Data)
		}
	}
	return ""
}

// errorWords returns the meaning of a struct sock_extended_err: errno, origin, type, code and
// info, of 32, 8, 8, 8 and (after 8 bits) 32 bits, then 32 more bits, and the address of the
// host that reports it.
func errorWords(b []byte) string {
	if len(b) < 16 {
		return ""
	}
	errno, info := syscall.Errno(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[8:])
	who := "this host"
	if a, ok := offender(b[16:]); ok {
		who = a.String()
	}
	if errno == unix.EMSGSIZE {
		return fmt.Sprintf("%s reports that it is too long, and that %d bytes fit", who, info)
	}
	return fmt.Sprintf("%s reports: %v", who, errno)
}

// offender returns the address in a sockaddr.
func offender(b []byte) (a netip.Addr, ok bool) {
	if len(b) < 2 {
		return a, false
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		return netip.AddrFrom4([4]byte(b[4:8])), true
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrFrom16([16]byte(b[8:24])), true
	}
	return a, false
}

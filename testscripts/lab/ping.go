package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Ping is a series of ICMP or ICMPv6 echo requests.
type Ping struct {
	Dst      netip.Addr
	Src      netip.Addr    // chosen by the host if not valid
	Count    int           // 1 if zero
	More     func() bool   // whether to go on after Count; nil: no
	Size     int           // bytes after the 8-byte echo header; 56 if zero
	Timeout  time.Duration // for each answer; 1 minute if zero (only a failure takes so long)
	GiveUp   func() bool   // called while it waits for an answer; true ends the wait like Timeout
	Interval time.Duration // after each answer
	DF       bool          // forbid fragments, IPv4 only; otherwise they are allowed
	TOS      int           // TOS or traffic class
}

// A Reply is the answer to one echo request.
type Reply struct {
	Seq, Bytes int // Bytes counts the ICMP message
	TTL        int // 0 for IPv6
	RTT        time.Duration
}

// ErrNoReply is the error if an echo request gets no answer.
var ErrNoReply = errors.New("no reply")

// maxCount is how many numbers requests can have.
const maxCount = 1<<16 - 1

var pingID atomic.Uint32

// Ping sends the requests one after the other and returns the answers that arrived
// whole. The error is about the first request without an answer: ErrNoReply, the
// meaning of an ICMP error, or the kernel's error on sending. More than maxCount requests are
// an error, too.
func (h *Host) Ping(p Ping) ([]Reply, error) {
	if p.Count == 0 {
		p.Count = 1
	}
	if p.Size == 0 {
		p.Size = 56
	}
	if p.Timeout == 0 {
		p.Timeout = time.Minute
	}
	fd := -1
	err := h.Do(func() (err error) {
		fd, err = openEcho(&p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping %s: %w", p.Dst, err)
	}
	defer unix.Close(fd)
	id := uint16(os.Getpid()) + uint16(pingID.Add(1))
	var replies []Reply
	var first error
	for seq := 1; seq <= p.Count || p.More != nil && p.More(); seq++ {
		if seq > maxCount {
			return replies, errors.Join(first, fmt.Errorf("ping %s: more than %d requests", p.Dst, maxCount))
		}
		r, err := echo(fd, &p, id, uint16(seq))
		if err != nil {
			if first == nil {
				first = fmt.Errorf("ping %s: packet %d: %w", p.Dst, seq, err)
			}
			continue
		}
		replies = append(replies, r)
		if seq < p.Count || p.More != nil {
			time.Sleep(p.Interval)
		}
	}
	return replies, first
}

func openEcho(p *Ping) (int, error) {
	af, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if !p.Dst.Is4() {
		af, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, err
	}
	if p.Src.IsValid() {
		err = unix.Bind(fd, sockaddr(p.Src))
	}
	if err == nil && p.Dst.Is4() {
		// By default the kernel sets DF on packets that fit the known path MTU.
		how := unix.IP_PMTUDISC_DONT
		if p.DF {
			how = unix.IP_PMTUDISC_DO
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, how)
	}
	switch {
	case err != nil || p.TOS == 0:
	case p.Dst.Is4():
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, p.TOS)
	default:
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, p.TOS)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func echo(fd int, p *Ping, id, seq uint16) (Reply, error) {
	req := make([]byte, 8+p.Size)
	req[0] = 8
	if !p.Dst.Is4() {
		req[0] = 128 // the kernel computes the checksum of ICMPv6
	}
	binary.BigEndian.PutUint16(req[4:], id)
	binary.BigEndian.PutUint16(req[6:], seq)
	for i := range req[8:] {
		req[8+i] = byte(i)
	}
	if p.Dst.Is4() {
		binary.BigEndian.PutUint16(req[2:], checksum(req))
	}
	start := time.Now()
	if err := unix.Sendto(fd, req, 0, sockaddr(p.Dst)); err != nil {
		return Reply{}, fmt.Errorf("send: %w", err)
	}
	buf := make([]byte, 65536)
	pause := FirstPause
	for {
		left := p.Timeout - time.Since(start)
		if left <= 0 {
			return Reply{}, ErrNoReply
		}
		wait := left
		if p.GiveUp != nil {
			wait, pause = min(left, pause), min(2*pause, time.Second)
		}
		n, err := poll(fd, unix.POLLIN, wait)
		if err == nil && n == 0 && p.GiveUp != nil && p.GiveUp() {
			// Answers that came before GiveUp returned true are in the socket now.
			if n, err = poll(fd, unix.POLLIN, 0); err == nil && n == 0 {
				return Reply{}, ErrNoReply
			}
		}
		if err == nil && n == 0 || err == unix.EINTR {
			continue
		}
		if err != nil {
			return Reply{}, err
		}
		n, _, err = unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			continue // the error of an earlier request
		}
		msg, ttl := buf[:n], 0
		if p.Dst.Is4() {
			if n < 20 || n < int(msg[0]&15)*4 {
				continue
			}
			ttl = int(msg[8])
			msg = msg[int(msg[0]&15)*4:]
		}
		if len(msg) < 8 {
			continue
		}
		if text := icmpError(p.Dst.Is4(), msg, id, seq); text != "" {
			return Reply{}, errors.New(text)
		}
		if (msg[0] != 0 && msg[0] != 129) || !bytes.Equal(msg[4:8], req[4:8]) {
			continue
		}
		if !bytes.Equal(msg[8:], req[8:]) {
			return Reply{}, fmt.Errorf("answer of %d bytes differs from the request of %d", len(msg), len(req))
		}
		return Reply{Seq: int(seq), Bytes: len(msg), TTL: ttl, RTT: time.Since(start)}, nil
	}
}

// poll waits for events of a socket.
func poll(fd int, events int16, wait time.Duration) (n int, err error) {
	return unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int((wait+time.Millisecond-1)/time.Millisecond))
}

// icmpError returns the meaning of an ICMP error about our request, or "".
func icmpError(v4 bool, msg []byte, id, seq uint16) string {
	inner := msg[8:]
	if v4 {
		if len(inner) < 20 || len(inner) < int(inner[0]&15)*4+8 {
			return ""
		}
		inner = inner[int(inner[0]&15)*4:]
	} else {
		if len(inner) < 48 {
			return ""
		}
		inner = inner[40:]
	}
	if binary.BigEndian.Uint16(inner[4:]) != id || binary.BigEndian.Uint16(inner[6:]) != seq {
		return ""
	}
	if s := icmpName(v4, msg); s != "" && isICMPError(v4, msg[0]) {
		return s
	}
	return ""
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// checksum is the Internet checksum of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

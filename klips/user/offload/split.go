package offload

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Further fields of the virtio header.
const (
	gsoNone = 0
	gsoECN  = 0x80 // a flag beside the kind: the first segment has CWR (RFC 3168)
)

// ErrFormat means that a device has passed what is no packet, or a bundle of a kind that
// was not asked for.
var ErrFormat = errors.New("the device has passed something that is no packet")

// A Splitter makes packets of the frames that are read from a device. A frame is a virtio
// header and a packet or a bundle. It is not trusted: lengths are checked first.
type Splitter struct {
	frame []byte
	p     []byte // the packet or the bundle; empty: there is none
	g     bundle // g.size 0: a single packet
	next  int    // number of the next packet
	count int    // of packets
}

// NewSplitter makes a Splitter.
func NewSplitter() *Splitter { return &Splitter{frame: make([]byte, HeaderLen+maxTotal)} }

// Buffer returns the buffer for a frame.
func (s *Splitter) Buffer() []byte { return s.frame }

// Begin begins to split the frame in the first n bytes of the buffer. What was left of the
// frame before is lost. The error is [ErrFormat].
func (s *Splitter) Begin(n int) error {
	s.next, s.count, s.g = 0, 0, bundle{}
	if n < HeaderLen+20 || n > len(s.frame) {
		return ErrFormat
	}
	h := s.frame[:HeaderLen]
	s.p = s.frame[HeaderLen:n]
	if h[1] == gsoNone {
		start, at := int(binary.NativeEndian.Uint16(h[6:])), int(binary.NativeEndian.Uint16(h[8:]))
		if h[0]&needsChecksum != 0 && !complete(s.p, start, at) {
			return ErrFormat
		}
		s.count = 1
		return nil
	}
	g, ok := parseBundle(h, s.p)
	if !ok || len(s.p) == g.header {
		return ErrFormat
	}
	s.g = g
	s.count = (len(s.p) - g.header + g.size - 1) / g.size
	return nil
}

// Left returns how many packets of the frame are left.
func (s *Splitter) Left() int { return s.count - s.next }

// Next copies the next packet to q and returns its length. Checksums that the kernel has
// left to be completed are completed. The error is io.ErrShortBuffer if the packet does
// not fit, and it is lost. Left must not be 0.
func (s *Splitter) Next(q []byte) (n int, err error) {
	i := s.next
	s.next++
	if s.g.size == 0 {
		if len(q) < len(s.p) {
			return 0, io.ErrShortBuffer
		}
		return copy(q, s.p), nil
	}
	data := s.p[s.g.header:]
	data = data[i*s.g.size : min((i+1)*s.g.size, len(data))]
	if n = s.g.header + len(data); len(q) < n {
		return 0, io.ErrShortBuffer
	}
	copy(q, s.p[:s.g.header])
	copy(q[s.g.header:], data)
	s.g.finish(q[:n], i, s.next == s.count)
	return n, nil
}

// complete completes the checksum of a packet: its field, at bytes after start, has the sum
// of the pseudo-header. It returns false if that is not in the packet.
func complete(p []byte, start, at int) bool {
	if start+at+2 > len(p) {
		return false
	}
	// The field is part of the sum.
	sum := ^packet.Fold(packet.Sum(p[start:], 0))
	if sum == 0 && at == udpChecksum {
		sum = 0xffff // 0 means no checksum (RFC 768); for TCP this is another form of 0
	}
	binary.BigEndian.PutUint16(p[start+at:], sum)
	return true
}

// A bundle holds what the packets of a bundle have in common.
type bundle struct {
	udp    bool
	ip     int // bytes of the IP header, with extension headers
	header int // bytes of all headers
	size   int // bytes of data in each packet except the last one
	v4     bool
	id     uint16
	seq    uint32
	flags  byte   // of TCP, in the bundle's header
	pseudo uint64 // sum of addresses and protocol
}

// parseBundle reads the headers of a bundle p with virtio header h.
func parseBundle(h, p []byte) (g bundle, ok bool) {
	g.ip, g.size = int(binary.NativeEndian.Uint16(h[6:])), int(binary.NativeEndian.Uint16(h[4:]))
	g.v4 = p[0]>>4 == 4
	proto, least, addrs := uint64(packet.ProtoTCP), tcpMin, [2]int{12, 20}
	switch h[1] &^ gsoECN {
	case gsoTCPv4:
		ok = g.v4
	case gsoTCPv6:
		ok = !g.v4
	case gsoUDP:
		g.udp, ok = true, true
		proto, least = packet.ProtoUDP, udpMin
	}
	if g.v4 {
		g.id = binary.BigEndian.Uint16(p[4:])
	} else {
		ok = ok && p[0]>>4 == 6
		addrs = [2]int{8, 40}
	}
	if !ok || g.size == 0 || g.ip < addrs[1] || g.ip+least > len(p) || h[0]&needsChecksum == 0 {
		return g, false
	}
	if g.v4 && int(p[0]&15)*4 != g.ip {
		return g, false
	}
	g.header = g.ip + udpMin
	if !g.udp {
		t := p[g.ip:]
		g.header = g.ip + int(t[tcpLen]>>4)*4
		g.seq, g.flags = binary.BigEndian.Uint32(t[tcpSeq:]), t[tcpFlags]
	}
	if g.header < g.ip+least || g.header > len(p) {
		return g, false
	}
	g.pseudo = packet.Sum(p[addrs[0]:addrs[1]], proto)
	return g, true
}

// finish writes the fields in which packet q, number i of the bundle, differs from the
// others, and its checksums, as the kernel does (tcp_gso_segment, __udp_gso_segment).
func (g *bundle) finish(q []byte, i int, last bool) {
	packet.SetTotal(q, len(q))
	if g.v4 {
		binary.BigEndian.PutUint16(q[4:], g.id+uint16(i))
		packet.FixChecksum(q)
	}
	t := q[g.ip:]
	at := udpChecksum
	if g.udp {
		binary.BigEndian.PutUint16(t[udpLen:], uint16(len(t)))
	} else {
		at = tcpChecksum
		binary.BigEndian.PutUint32(t[tcpSeq:], g.seq+uint32(i*g.size))
		flags := g.flags
		if !last {
			flags &^= flagFIN | flagPSH
		}
		if i > 0 {
			flags &^= flagCWR
		}
		t[tcpFlags] = flags
	}
	t[at], t[at+1] = 0, 0
	sum := ^packet.Fold(packet.Sum(t, g.pseudo+uint64(len(t))))
	if sum == 0 && g.udp {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], sum)
}

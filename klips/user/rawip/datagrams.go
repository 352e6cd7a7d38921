package rawip

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Lengths in bytes.
const (
	udpLen  = 8
	ipv4Len = 20
	ipv6Len = 40
)

// messages is how many messages one call reads from a socket for UDP. Each may be many
// datagrams.
const messages = 16

// messageStride is the distance of two messages in memory. It is no multiple of a page:
// their headers would otherwise compete for the same places of the processor's cache.
const messageStride = 1<<16 + 5*64

// datagrams takes apart what sockets for UDP receive: several datagrams of one sender may
// come as one message. A UDP socket asks for that (UDP_GRO). A raw socket gets such a
// message from a virtual device, which passes what another host of this machine has given
// to its kernel at once (UDP_SEGMENT).
type datagrams struct {
	batch     *mmsg.Batch
	memory    []byte // of the messages
	from      recvSocket
	got, next int // messages that were read, and the one to take apart next

	// The message that is being taken apart:
	left    []byte
	size    int // bytes of each datagram except the last one
	count   int // of datagrams that are left
	ifindex int
	head    [maxHead]byte
	headers []byte // in head: what the next datagram gets
}

// maxHead is the greatest length in bytes of the headers: IPv4 with all options, and UDP.
const maxHead = 60 + udpLen

func newDatagrams() *datagrams {
	return &datagrams{batch: mmsg.NewBatch(messages), memory: make([]byte, messages*messageStride)}
}

// message returns the memory of message i.
func (d *datagrams) message(i int) []byte {
	return d.memory[i*messageStride : i*messageStride+1<<16]
}

// read reads messages from a socket. full: there may be more. Those of the call before
// must have been taken apart.
func (d *datagrams) read(from recvSocket) (full bool) {
	for i := range messages {
		d.batch.SetRecv(i, d.message(i))
	}
	d.next, d.got, d.from = 0, 0, from
	n, err := d.batch.Recv(from.fd, messages)
	if err != nil {
		return false
	}
	d.got = n
	return n == messages
}

// take puts datagrams that were read into bufs, each as a whole IP packet, until all are
// taken or no buffer is left. It returns their number.
func (d *datagrams) take(ps *Ports, bufs []*packet.Buffer, ifindex []int) (n int) {
	for n < len(bufs) {
		for d.count == 0 {
			if d.next == d.got {
				return n
			}
			d.open(ps, d.next)
			d.next++
		}
		size := min(d.size, len(d.left))
		d.put(bufs[n], d.left[:size])
		d.left = d.left[size:]
		d.count--
		ifindex[n] = d.ifindex
		n++
	}
	return n
}

// open begins to take message i apart, or leaves it out: if it was longer than its room,
// if the kernel has not reported its addresses, or if another socket has it, too.
func (d *datagrams) open(ps *Ports, i int) {
	n, src, long := d.batch.Received(i)
	in := d.batch.Info(i)
	from := src.Addr()
	d.count = 0
	if long || !from.IsValid() || !in.Dst.IsValid() || from.Is4() != in.Dst.Is4() {
		return
	}
	data := d.message(i)[:n]
	d.ifindex = int(in.IfIndex)
	if d.from.proto == packet.ProtoUDP {
		if data = d.openRaw(data, from, &in); data == nil || held(ps, d.from.v6, d.headers) {
			return
		}
		d.size = firstLen(data)
	} else {
		d.ipHeader(from, &in)
		u := d.headers[len(d.headers)-udpLen:]
		binary.BigEndian.PutUint16(u, src.Port())
		binary.BigEndian.PutUint16(u[2:], d.from.port)
		d.size = len(data)
		if in.Segment > 0 {
			d.size = in.Segment
		}
	}
	d.left, d.count = data, 1
	if d.size > 0 {
		d.count = max(1, (len(data)+d.size-1)/d.size)
	}
}

// ipHeader makes an IP header of a UDP packet from the kernel's control messages, with room
// for the UDP header after it.
func (d *datagrams) ipHeader(from netip.Addr, in *mmsg.Info) {
	if from.Is4() {
		d.headers = d.head[:ipv4Len+udpLen]
		header4(d.headers, from, in)
		return
	}
	d.headers = d.head[:ipv6Len+udpLen]
	in.Ext = nil // they are of no use for what is in UDP
	header6(d.headers, packet.ProtoUDP, from, in, 0)
}

// openRaw takes the headers of a message of a raw socket, which begins at the IP header in
// IPv4, and at the UDP header in IPv6. It returns the data, as far as the UDP header has
// it; a wrong length there is like none. nil: it is no UDP packet.
func (d *datagrams) openRaw(p []byte, from netip.Addr, in *mmsg.Info) (data []byte) {
	n := 0
	if !d.from.v6 {
		if len(p) == 0 {
			return nil
		}
		n = int(p[0]&15) * 4
	}
	if len(p) < n+udpLen || !d.from.v6 && n < ipv4Len {
		return nil
	}
	u, rest := p[n:n+udpLen], p[n+udpLen:]
	if d.from.v6 {
		d.ipHeader(from, in)
		copy(d.headers[ipv6Len:], u)
	} else {
		d.headers = d.head[:n+udpLen]
		copy(d.headers, p)
	}
	length := int(binary.BigEndian.Uint16(u[4:])) - udpLen
	if length < 0 || length > len(rest) {
		return rest[:0]
	}
	return rest[:length]
}

// firstLen returns the length of the first of the datagrams in data. If they are several,
// they are ESP of one SA with consecutive numbers, and of the same length except the last
// one: so the sender makes its runs, and nothing else has the SPI and the next number at
// every such place.
func firstLen(data []byte) int {
	at := 0
	if isNonIKE(data) {
		at = 8
	}
	if len(data) < at+8 || [4]byte(data[at:]) == [4]byte{} {
		return len(data)
	}
	// next is what the i-th datagram after the first begins with.
	next := func(i int) (b [8]byte) {
		copy(b[:4], data[at:])
		binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(data[at+4:])+uint32(i))
		return b
	}
	second := next(1)
	for from := 2*at + 8; ; {
		found := bytes.Index(data[min(from, len(data)):], second[:])
		if found < 0 {
			return len(data)
		}
		size := from + found - at
		i := 1
		for i*size < len(data) && i*size+at+8 <= len(data) && [8]byte(data[i*size+at:]) == next(i) {
			i++
		}
		if i*size >= len(data) {
			return size
		}
		from += found + 1
	}
}

// isNonIKE reports whether ESP follows after eight zero bytes, as in
// draft-ietf-ipsec-udp-encaps-02.
func isNonIKE(data []byte) bool { return len(data) > 8 && [8]byte(data) == [8]byte{} }

// header4 makes an IPv4 header of a UDP packet, without length and checksum.
func header4(p []byte, src netip.Addr, in *mmsg.Info) {
	clear(p[:ipv4Len])
	p[0], p[1], p[8], p[9] = 0x45, in.Class, in.HopLimit, packet.ProtoUDP
	s, d := src.As4(), in.Dst.As4()
	copy(p[12:], s[:])
	copy(p[16:], d[:])
}

// put makes an IP packet of a datagram. Its UDP checksum is that of the message, or 0; the
// kernel has checked it, or the ICV counts.
func (d *datagrams) put(b *packet.Buffer, data []byte) {
	n := len(d.headers)
	binary.BigEndian.PutUint16(d.headers[n-4:], uint16(udpLen+len(data)))
	b.Off, b.End = packet.Headroom, packet.Headroom+n+len(data)
	p := b.Bytes()
	copy(p, d.headers)
	copy(p[n:], data)
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
}

// held reports whether there is a socket at the destination port of a UDP packet that a
// raw socket has received, with headers h: the packet comes from that socket, too.
func held(ps *Ports, v6 bool, h []byte) bool {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	return ps.has(place{family, binary.BigEndian.Uint16(h[len(h)-udpLen+2:])})
}

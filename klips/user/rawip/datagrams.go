package rawip

import (
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

// messages is how many messages one call reads from a UDP socket. Each may be up to 64
// datagrams.
const messages = 16

// messageStride is the distance of two messages in memory. It is no multiple of a page:
// their headers would otherwise compete for the same places of the processor's cache.
const messageStride = 1<<16 + 5*64

// datagrams takes apart what UDP sockets receive: several datagrams of one sender may
// come as one message (UDP_GRO).
type datagrams struct {
	batch     *mmsg.Batch
	memory    []byte // of the messages
	got, next int    // messages that were read, and the one to take apart next

	// The message that is being taken apart:
	left    []byte
	size    int // bytes of each datagram except the last one
	ifindex int
	head    [ipv6Len + udpLen]byte
	headers []byte // in head: what the next datagram gets
}

func newDatagrams() *datagrams {
	return &datagrams{batch: mmsg.NewBatch(messages), memory: make([]byte, messages*messageStride)}
}

// message returns the memory of message i.
func (d *datagrams) message(i int) []byte {
	return d.memory[i*messageStride : i*messageStride+1<<16]
}

// read reads messages from the socket of a port. full: there may be more. Those of the
// call before must have been taken apart.
func (d *datagrams) read(p *port) (full bool) {
	for i := range messages {
		d.batch.SetRecv(i, d.message(i))
	}
	d.next, d.got = 0, 0
	n, err := d.batch.Recv(p.fd, messages)
	if err != nil {
		return false
	}
	d.got = n
	// The port is that of the socket for all.
	binary.BigEndian.PutUint16(d.head[ipv6Len+2:], p.port)
	return n == messages
}

// take puts datagrams that were read into bufs, each as a whole IP packet, until all are
// taken or no buffer is left. It returns their number.
func (d *datagrams) take(bufs []*packet.Buffer, ifindex []int) (n int) {
	for n < len(bufs) {
		for len(d.left) == 0 {
			if d.next == d.got {
				return n
			}
			d.open(d.next)
			d.next++
		}
		size := min(d.size, len(d.left))
		d.put(bufs[n], d.left[:size])
		d.left = d.left[size:]
		ifindex[n] = d.ifindex
		n++
	}
	return n
}

// open begins to take message i apart. A message that was longer than its room is lost,
// and so is one whose addresses the kernel has not reported.
func (d *datagrams) open(i int) {
	n, src, long := d.batch.Received(i)
	in := d.batch.Info(i)
	d.left = d.message(i)[:n]
	from := src.Addr()
	if long || n == 0 || !from.IsValid() || from.Is4() != in.Dst.Is4() {
		d.left = nil
		return
	}
	d.size, d.ifindex = n, int(in.IfIndex)
	if in.Segment > 0 {
		d.size = in.Segment
	}
	binary.BigEndian.PutUint16(d.head[ipv6Len:], src.Port())
	if from.Is4() {
		d.headers = d.head[ipv6Len-ipv4Len:]
		header4(d.headers, from, &in)
	} else {
		d.headers = d.head[:]
		in.Ext, in.Label = nil, 0
		header6(d.headers, packet.ProtoUDP, from, &in, 0)
	}
}

// header4 makes an IPv4 header of a UDP packet, without length and checksum.
func header4(p []byte, src netip.Addr, in *mmsg.Info) {
	clear(p[:ipv4Len])
	p[0], p[1], p[8], p[9] = 0x45, in.Class, in.HopLimit, packet.ProtoUDP
	s, d := src.As4(), in.Dst.As4()
	copy(p[12:], s[:])
	copy(p[16:], d[:])
}

// put makes an IP packet of a datagram. It has no UDP checksum: the kernel has checked
// it.
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

// held reports whether there is a socket at the destination port of what a raw UDP socket
// has received: the packet comes from that socket, too.
func held(ps *Ports, s *recvSocket, udp []byte) bool {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	} else if len(udp) > 0 {
		udp = udp[min(len(udp), int(udp[0]&15)*4):]
	}
	return len(udp) >= udpLen && ps.has(place{family, binary.BigEndian.Uint16(udp[2:])})
}

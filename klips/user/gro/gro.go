// Package gro merges packets of one flow into bundles, so that one write passes a
// bundle to a TUN device (generic receive offload). A bundle has a virtio header (OASIS
// virtio 1.1 section 5.1.6). With it the kernel splits the bundle if single packets are
// needed, or passes all data to a TCP socket at once.
//
// Splitting a bundle gives the original packets, byte for byte and in their order:
// packets are merged only if the kernel recreates the same headers. This is stricter
// than the kernel's own offload, and than package tun of WireGuard, which allows
// windows, flow labels and identifications to differ. Packets of one flow, and packets
// between the same addresses that cannot be merged, keep their order; other flows may
// be reordered, as in the kernel.
//
// A [Merger] belongs to one goroutine. It neither locks nor allocates per packet.
package gro

import (
	"encoding/binary"
	"math"
)

// HeaderLen is the length in bytes of the virtio header before a packet.
const HeaderLen = 10

// Fields of the virtio header (linux/virtio_net.h). They have the byte order of the host.
const (
	needsChecksum = 1 // flag

	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5
)

// maxTotal is the maximum length of a bundle in bytes: the limit of the IPv4 length
// field (RFC 791 section 3.1).
const maxTotal = math.MaxUint16

// maxDatagrams is the kernel's maximum number of datagrams in a bundle
// (UDP_MAX_SEGMENTS).
const maxDatagrams = 64

// maxOpen is the maximum number of bundles that are open for packets at a time.
const maxOpen = 16

// A Merger sorts packets into bundles.
type Merger struct {
	udp     bool    // datagrams are merged too
	places  []place // by packet
	open    []flow  // bundles to which packets can be added
	oldest  int     // index of the one to close when there is no room
	scratch []byte  // a bundle that is being made
}

// A place is the position of a packet in its bundle.
type place struct {
	behind bool // it is not the first one
	next   int  // the next packet; 0: it is the last one
}

// New makes a Merger. udp: the kernel accepts bundles of UDP datagrams (Linux 6.2).
func New(udp bool) *Merger {
	return &Merger{udp: udp, open: make([]flow, 0, maxOpen), scratch: make([]byte, HeaderLen+maxTotal)}
}

// Each merges the packets bufs[i][offset:]. It calls write for each bundle and for each
// single packet, in the order of their first packets, with a virtio header before it; n
// is the number of packets in it. offset is at least HeaderLen; the bytes before a
// packet may be overwritten. p is valid until write returns.
func (m *Merger) Each(bufs [][]byte, offset int, write func(p []byte, n int)) {
	m.places, m.open, m.oldest = m.places[:0], m.open[:0], 0
	for i, b := range bufs {
		m.places = append(m.places, place{})
		m.add(b[offset:], i)
	}
	for i, b := range bufs {
		switch {
		case m.places[i].behind:
		case m.places[i].next == 0:
			clear(b[offset-HeaderLen : offset])
			write(b[offset-HeaderLen:], 1)
		default:
			write(m.bundle(bufs, offset, i))
		}
	}
}

// add adds a packet to an open bundle, or opens one.
func (m *Merger) add(p []byte, i int) {
	f, k := read(p, i)
	if k == other {
		m.end(p)
		return
	}
	alone := k == single || f.udp && !m.udp
	for k := range m.open {
		o := &m.open[k]
		if !o.same(&f) {
			continue
		}
		if alone {
			o.closed = true
		} else if o.takes(&f) {
			m.places[o.lastIndex].next, m.places[i].behind = i, true
			o.take(&f)
		} else {
			*o = f
		}
		return
	}
	if alone {
		return
	}
	if len(m.open) < maxOpen {
		m.open = append(m.open, f)
		return
	}
	m.open[m.oldest] = f
	m.oldest = (m.oldest + 1) % maxOpen
}

// end closes all bundles between the addresses of a packet of an unknown flow, such as
// a fragment.
func (m *Merger) end(p []byte) {
	at, n := addresses(p)
	for k := range m.open {
		o := &m.open[k]
		if n == 0 || string(p[at:at+n]) == string(o.addrs()) {
			o.closed = true
		}
	}
}

// addresses returns the offset and length in bytes of the addresses of an IP packet;
// length 0: it is not an IP packet.
func addresses(p []byte) (at, n int) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return 12, 8
	case len(p) >= 40 && p[0]>>4 == 6:
		return 8, 32
	}
	return 0, 0
}

// bundle makes the bundle whose first packet is number i, and returns it and its number
// of packets.
func (m *Merger) bundle(bufs [][]byte, offset, i int) ([]byte, int) {
	first := bufs[i][offset:]
	f, _ := read(first, i)
	b := append(m.scratch[:HeaderLen], first...)
	n, push := 1, false
	for k := m.places[i].next; k != 0; k = m.places[k].next {
		p := bufs[k][offset:]
		b = append(b, p[f.header:]...)
		n++
		push = !f.udp && p[f.ip+tcpFlags]&flagPSH != 0
	}
	p := b[HeaderLen:]
	if push { // the kernel keeps it only in the last one
		p[f.ip+tcpFlags] |= flagPSH
	}
	setLengths(p, &f)
	f.virtio(b[:HeaderLen])
	return b, n
}

// virtio writes the virtio header of a bundle whose first packet is f.
func (f *flow) virtio(h []byte) {
	kind, checksum := byte(gsoTCPv4), tcpChecksum
	switch {
	case f.udp:
		kind, checksum = gsoUDP, udpChecksum
	case f.ip == 40:
		kind = gsoTCPv6
	}
	h[0], h[1] = needsChecksum, kind
	binary.NativeEndian.PutUint16(h[2:], uint16(f.header))
	binary.NativeEndian.PutUint16(h[4:], uint16(f.size))
	binary.NativeEndian.PutUint16(h[6:], uint16(f.ip))
	binary.NativeEndian.PutUint16(h[8:], uint16(checksum))
}

package offload

import (
	"encoding/binary"
	"math"

	"github.com/klips-go/ipsec/klips/user/packet"
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

// maxHeaders is the maximum length in bytes of the headers of a bundle: IPv6, and TCP with
// all options.
const maxHeaders = 40 + 60

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
	headers []byte  // of the bundle at hand
	parts   [][]byte
	pkts    []*packet.Buffer
}

// A place is the position of a packet in its bundle.
type place struct {
	behind bool // it is not the first one
	next   int  // the next packet; 0: it is the last one
}

// New makes a Merger. udp: the kernel accepts bundles of UDP datagrams (Linux 6.2).
func New(udp bool) *Merger {
	return &Merger{udp: udp, open: make([]flow, 0, maxOpen), headers: make([]byte, 0, HeaderLen+maxHeaders)}
}

// Each merges packets. It calls write for each bundle and for each single packet, in the
// order of their first packets. The parts together are a virtio header and the bundle of
// the given packets, so that nothing is copied. The HeaderLen bytes before a packet, which
// must be there, may be overwritten. The arguments are valid until write returns.
func (m *Merger) Each(pkts []*packet.Buffer, write func(parts [][]byte, pkts []*packet.Buffer)) {
	m.places, m.open, m.oldest = m.places[:0], m.open[:0], 0
	for i, b := range pkts {
		m.places = append(m.places, place{})
		m.add(b.Bytes(), i)
	}
	for i, b := range pkts {
		switch {
		case m.places[i].behind:
			continue
		case m.places[i].next == 0:
			clear(b.B[b.Off-HeaderLen : b.Off])
			m.parts = append(m.parts[:0], b.B[b.Off-HeaderLen:b.End])
			m.pkts = append(m.pkts[:0], b)
		default:
			m.bundle(pkts, i)
		}
		write(m.parts, m.pkts)
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

// bundle collects the parts and the packets of the bundle whose first packet is number i.
func (m *Merger) bundle(pkts []*packet.Buffer, i int) {
	first := pkts[i].Bytes()
	f, _ := read(first, i)
	m.pkts = append(m.pkts[:0], pkts[i])
	m.headers = append(m.headers[:HeaderLen], first[:f.header]...)
	m.parts = append(m.parts[:0], m.headers, first[f.header:])
	total, push := len(first), false
	for k := m.places[i].next; k != 0; k = m.places[k].next {
		p := pkts[k].Bytes()
		m.parts = append(m.parts, p[f.header:])
		m.pkts = append(m.pkts, pkts[k])
		total += len(p) - f.header
		push = !f.udp && p[f.ip+tcpFlags]&flagPSH != 0
	}
	p := m.headers[HeaderLen:]
	if push { // the kernel keeps it only in the last one
		p[f.ip+tcpFlags] |= flagPSH
	}
	setLengths(p, &f, total)
	f.virtio(m.headers[:HeaderLen])
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

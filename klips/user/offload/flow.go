package offload

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Offsets in a TCP or UDP header.
const (
	tcpSeq      = 4
	tcpAck      = 8
	tcpLen      = 12 // the high half of the byte; the low one is reserved
	tcpFlags    = 13
	tcpWindow   = 14
	tcpChecksum = 16
	tcpMin      = 20

	udpLen      = 4
	udpChecksum = 6
	udpMin      = 8
)

// Flags of TCP.
const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80
)

// A flow is a bundle to which packets can be added, or a packet that may begin one.
type flow struct {
	p      []byte // the first packet
	udp    bool
	ip     int // bytes of the IP header, 20 or 40
	header int // bytes of all headers
	size   int // bytes of data in each packet except the last one

	// Of the whole bundle:
	lastIndex int
	count     int
	total     int    // bytes
	id        uint16 // IPv4 identification of the last packet
	seq       uint32 // the next TCP sequence number
	closed    bool   // no packet can be added
	checked   bool   // its checksums are right
}

// A kind is whether a packet can be merged.
type kind int

const (
	other  kind = iota // its flow is not known
	single             // its flow is known, and it is never merged
	mergeable
)

// read returns the flow of packet number i. Only TCP and UDP packets with data and with
// usual headers can be merged.
func read(p []byte, i int) (f flow, k kind) {
	var proto byte
	switch {
	case len(p) >= 20 && p[0] == 0x45: // without options
		if int(binary.BigEndian.Uint16(p[2:])) != len(p) || p[6]&^0x40 != 0 || p[7] != 0 {
			return f, other // a fragment, or another length
		}
		f.ip, f.id, proto = 20, binary.BigEndian.Uint16(p[4:]), p[9]
	case len(p) >= 40 && p[0]>>4 == 6:
		if int(binary.BigEndian.Uint16(p[4:]))+40 != len(p) {
			return f, other
		}
		f.ip, proto = 40, p[6]
	default:
		return f, other
	}
	f.p, f.lastIndex, f.count, f.total = p, i, 1, len(p)
	t := p[f.ip:]
	switch {
	case proto == packet.ProtoTCP && len(t) >= tcpMin:
		f.header = f.ip + int(t[tcpLen]>>4)*4
		if f.header < f.ip+tcpMin || t[tcpLen]&15 != 0 || t[tcpFlags]&^flagPSH != flagACK {
			return f, single
		}
		f.closed = t[tcpFlags]&flagPSH != 0
	case proto == packet.ProtoUDP && len(t) >= udpMin:
		f.udp, f.header = true, f.ip+udpMin
		if int(binary.BigEndian.Uint16(t[udpLen:])) != len(t) {
			return f, single
		}
	default:
		return f, other
	}
	f.size = len(p) - f.header
	if f.size <= 0 || len(p) > maxTotal {
		return f, single
	}
	if !f.udp {
		f.seq = binary.BigEndian.Uint32(t[tcpSeq:]) + uint32(f.size)
	}
	return f, mergeable
}

// addrs returns the bytes of source and destination.
func (f *flow) addrs() []byte {
	if f.ip == 20 {
		return f.p[12:20]
	}
	return f.p[8:40]
}

// same reports whether two packets have the same addresses, protocol and ports.
func (f *flow) same(o *flow) bool {
	return f.udp == o.udp && f.ip == o.ip &&
		string(f.addrs()) == string(o.addrs()) && string(f.p[f.ip:f.ip+4]) == string(o.p[o.ip:o.ip+4])
}

// takes reports whether packet o of the same flow can be the bundle's next one: whether
// the kernel, which has only the headers of the first packet, recreates those of o.
func (f *flow) takes(o *flow) bool {
	if f.closed || o.size > f.size || f.total+o.size > maxTotal || f.header != o.header {
		return false
	}
	a, b := f.p, o.p
	if f.ip == 20 {
		// The kernel increments identifications (inet_gso_segment).
		if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] || o.id != f.id+1 {
			return false
		}
	} else if string(a[:4]) != string(b[:4]) || a[7] != b[7] { // traffic class, flow label, hop limit
		return false
	}
	if f.udp {
		if f.count == maxDatagrams {
			return false
		}
	} else {
		s, t := a[f.ip:f.header], b[f.ip:f.header]
		if binary.BigEndian.Uint32(t[tcpSeq:]) != f.seq || string(s[tcpAck:tcpFlags]) != string(t[tcpAck:tcpFlags]) ||
			string(s[tcpWindow:tcpChecksum]) != string(t[tcpWindow:tcpChecksum]) || string(s[tcpChecksum+2:]) != string(t[tcpChecksum+2:]) {
			return false
		}
	}
	if !f.checked {
		if !checksumsRight(f) {
			return false
		}
		f.checked = true
	}
	return checksumsRight(o)
}

// take appends o to the bundle.
func (f *flow) take(o *flow) {
	f.lastIndex, f.id, f.seq = o.lastIndex, o.id, o.seq
	f.count++
	f.total += o.size
	f.closed = o.closed || o.size < f.size
}

// checksumsRight reports whether the checksums of a packet are those that the kernel
// computes: a wrong one must not become right, and a UDP packet without one must stay
// so.
func checksumsRight(f *flow) bool {
	if f.ip == 20 && packet.Fold(packet.Sum(f.p[:20], 0)) != 0xffff {
		return false
	}
	t := f.p[f.ip:]
	at, proto := tcpChecksum, uint64(packet.ProtoTCP)
	if f.udp {
		at, proto = udpChecksum, packet.ProtoUDP
	}
	is := binary.BigEndian.Uint16(t[at:])
	// The sum of everything except the checksum field. The added length is never 0, so
	// the sum is between 1 and 0xffff.
	rest := packet.Fold(packet.Sum(t, packet.Sum(f.addrs(), proto+uint64(len(t)))) + uint64(^is))
	want := ^rest
	if want == 0 && f.udp {
		want = 0xffff // 0 means no checksum (RFC 768)
	}
	return is == want
}

// setLengths writes the length of a bundle of total bytes, whose first packet is f, into
// its headers p, and prepares them for the kernel's checksums.
func setLengths(p []byte, f *flow, total int) {
	packet.SetTotal(p, total)
	packet.FixChecksum(p)
	t := p[f.ip:]
	at, proto := tcpChecksum, uint64(packet.ProtoTCP)
	if f.udp {
		at, proto = udpChecksum, packet.ProtoUDP
		binary.BigEndian.PutUint16(t[udpLen:], uint16(total-f.ip))
	}
	// The sum of the pseudo-header, not complemented (struct virtio_net_hdr, csum_start).
	binary.BigEndian.PutUint16(t[at:], packet.Fold(packet.Sum(f.addrs(), proto+uint64(total-f.ip))))
}

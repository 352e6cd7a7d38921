package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// IP protocol numbers that the stack uses.
const (
	ProtoICMP     = 1
	ProtoIPIP     = 4
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoIPv6     = 41
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNoNext   = 59
	ProtoDstOpts  = 60
	ProtoComp     = 108
	ProtoHopByHop = 0
)

// A Header is the parsed header of an IP packet. It contains no reference to the
// packet.
type Header struct {
	Version  uint8      // 4 or 6
	Src, Dst netip.Addr // unmapped
	Len      int        // length in bytes before the upper layer: IPv4 header with options, IPv6 header with the extension headers below
	Total    int        // length of the packet in bytes, from its header
	Proto    uint8      // protocol after Len
	ProtoOff int        // offset of the byte that names Proto
	Frag     bool       // a fragment: MF set or offset not 0
	FragOff  int        // offset in bytes of a fragment, 0 for the first
	DF       bool       // IPv4 Don't Fragment; true for IPv6
	TOS      uint8      // IPv4 TOS or IPv6 traffic class
	TTL      uint8      // or hop limit
	ID       uint16     // IPv4 identification
	Options  bool       // IPv4 header with options
}

// ParseIP parses the header of the packet in p. For IPv6 it skips hop-by-hop, routing,
// fragment and destination options headers before the first other header, which is the
// position of ESP and AH in transport mode (RFC 4303 section 3.1.1). ok is false if p
// is not a complete IP packet (shorter than its header says); bytes after Total are
// ignored.
func ParseIP(p []byte) (h Header, ok bool) {
	if len(p) < 20 {
		return h, false
	}
	switch p[0] >> 4 {
	case 4:
		return parse4(p)
	case 6:
		return parse6(p)
	}
	return h, false
}

func parse4(p []byte) (h Header, ok bool) {
	h.Version = 4
	h.Len = int(p[0]&15) * 4
	h.Total = int(binary.BigEndian.Uint16(p[2:]))
	if h.Len < 20 || h.Total < h.Len || h.Total > len(p) {
		return h, false
	}
	h.Options = h.Len > 20
	h.TOS = p[1]
	h.ID = binary.BigEndian.Uint16(p[4:])
	f := binary.BigEndian.Uint16(p[6:])
	h.DF = f&0x4000 != 0
	h.FragOff = int(f&0x1fff) * 8
	h.Frag = f&0x3fff != 0
	h.TTL = p[8]
	h.Proto, h.ProtoOff = p[9], 9
	h.Src = netip.AddrFrom4([4]byte(p[12:16]))
	h.Dst = netip.AddrFrom4([4]byte(p[16:20]))
	return h, true
}

func parse6(p []byte) (h Header, ok bool) {
	if len(p) < 40 {
		return h, false
	}
	h.Version = 6
	h.Len = 40
	h.Total = 40 + int(binary.BigEndian.Uint16(p[4:]))
	if h.Total > len(p) {
		return h, false
	}
	h.DF = true
	h.TOS = p[0]<<4 | p[1]>>4
	h.TTL = p[7]
	h.Src = netip.AddrFrom16([16]byte(p[8:24]))
	h.Dst = netip.AddrFrom16([16]byte(p[24:40]))
	h.Proto, h.ProtoOff = p[6], 6
	for {
		rest := h.Total - h.Len
		switch h.Proto {
		case ProtoHopByHop, ProtoRouting, ProtoDstOpts:
			if rest < 8 {
				return h, false
			}
			n := (int(p[h.Len+1]) + 1) * 8
			if n > rest {
				return h, false
			}
			h.Proto, h.ProtoOff, h.Len = p[h.Len], h.Len, h.Len+n
		case ProtoFragment:
			if rest < 8 {
				return h, false
			}
			f := binary.BigEndian.Uint16(p[h.Len+2:])
			h.FragOff = int(f &^ 7)
			h.Frag = f&^6 != 0
			h.Proto, h.ProtoOff, h.Len = p[h.Len], h.Len, h.Len+8
			if h.FragOff != 0 {
				return h, true // no header follows in a fragment other than the first
			}
		default:
			return h, true
		}
	}
}

// SetTotal writes the length of the packet p, including headers, into its IP header. It
// does not update the IPv4 checksum.
func SetTotal(p []byte, n int) {
	if p[0]>>4 == 4 {
		binary.BigEndian.PutUint16(p[2:], uint16(n))
	} else {
		binary.BigEndian.PutUint16(p[4:], uint16(n-40))
	}
}

// FixChecksum computes the IPv4 header checksum of p, whose header must be complete; it
// does nothing for IPv6.
func FixChecksum(p []byte) {
	if p[0]>>4 != 4 {
		return
	}
	n := int(p[0]&15) * 4
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^Fold(Sum(p[:n], 0)))
}

// Sum adds the 16-bit big-endian words of p to an Internet checksum in
// progress (RFC 1071); an odd last byte is padded with a zero.
func Sum(p []byte, sum uint64) uint64 {
	if wide > 0 && len(p) >= wide {
		n := len(p) / wide * wide
		// A sum of bytes in the other order is the sum in the other order (RFC 1071
		// section 2 (B)).
		sum += uint64(bits.ReverseBytes16(Fold(sumWide(&p[0], n))))
		p = p[n:]
	}
	var long, carry uint64
	for len(p) >= 32 {
		q := p[:32]
		long, carry = bits.Add64(long, binary.BigEndian.Uint64(q), carry)
		long, carry = bits.Add64(long, binary.BigEndian.Uint64(q[8:]), carry)
		long, carry = bits.Add64(long, binary.BigEndian.Uint64(q[16:]), carry)
		long, carry = bits.Add64(long, binary.BigEndian.Uint64(q[24:]), carry)
		p = p[32:]
	}
	sum += long>>32 + long&0xffffffff + carry
	for len(p) >= 8 {
		v := binary.BigEndian.Uint64(p)
		sum += v>>32 + v&0xffffffff
		p = p[8:]
	}
	for len(p) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(p))
		p = p[2:]
	}
	if len(p) == 1 {
		sum += uint64(p[0]) << 8
	}
	return sum
}

// Fold reduces a sum to 16 bits; its complement is the checksum.
func Fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

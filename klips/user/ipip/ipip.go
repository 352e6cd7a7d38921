// Package ipip encapsulates IP packets in IP packets and decapsulates them (RFC 2003,
// RFC 2473, RFC 4213), in place. The outer header is that of KLIPS: Don't Fragment is
// always clear, and the flow label is 0. The inner packet is not changed. Decapsulation
// copies congestion marks of the outer header to the inner one (RFC 6040).
package ipip

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Errors of Encap and Decap.
var (
	// ErrInner: the inner packet is not an IP packet.
	ErrInner = errors.New("ipip: inner packet is not IP")
	// ErrFamily: the outer addresses are of two families.
	ErrFamily = errors.New("ipip: outer addresses of two families")
	// ErrProto: the packet is not a tunnel packet.
	ErrProto = errors.New("ipip: not a tunnel packet")
	// ErrFragment: a fragment must be reassembled first.
	ErrFragment = errors.New("ipip: packet is a fragment")
	// ErrCE: the packet met congestion, and its transport would not react to a mark.
	ErrCE = errors.New("ipip: congestion was met, and the inner packet cannot tell")
	// ErrRoom: the buffer has too little room before the packet.
	ErrRoom = errors.New("ipip: no room in the buffer")
	// ErrTooLong: the packet would exceed packet.MaxSize.
	ErrTooLong = errors.New("ipip: packet becomes too long")
)

// Overhead returns the length in bytes of an outer header between addresses of the
// family of dst.
func Overhead(dst netip.Addr) int {
	if dst.Is4() {
		return 20
	}
	return 40
}

// Encap adds a complete outer header to the packet in b: 4 in 4, 6 in 4, 4 in 6 or 6 in
// 6. src and dst are of one family and unmapped; tos is the TOS or traffic class; ttl
// is the TTL or hop limit; id is the IPv4 identification, not used for IPv6. The IPv4
// checksum is computed. h becomes the parsed header of the new packet, as from
// [packet.ParseIP].
//
// Errors are ErrFamily, ErrInner (not an IP packet), ErrRoom and ErrTooLong; the
// packet and h are then unchanged.
func Encap(b *packet.Buffer, h *packet.Header, src, dst netip.Addr, tos, ttl uint8, id uint16) error {
	if !src.IsValid() || src.Is4() != dst.Is4() || !dst.IsValid() {
		return ErrFamily
	}
	var proto uint8
	switch version(b) {
	case 4:
		proto = packet.ProtoIPIP
	case 6:
		proto = packet.ProtoIPv6
	default:
		return ErrInner
	}
	n := Overhead(dst)
	if b.Len()+n > packet.MaxSize {
		return ErrTooLong
	}
	if !b.Push(n) {
		return ErrRoom
	}
	p := b.Bytes()
	*h = packet.Header{Version: 4, Src: src, Dst: dst, Len: n, Total: len(p), Proto: proto, ProtoOff: 9, TOS: tos, TTL: ttl, ID: id}
	if n == 20 {
		p[0], p[1] = 0x45, tos
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[4:], id)
		p[6], p[7] = 0, 0
		p[8], p[9] = ttl, proto
		s, d := src.As4(), dst.As4()
		copy(p[12:], s[:])
		copy(p[16:], d[:])
		packet.FixChecksum(p)
		return nil
	}
	h.Version, h.ProtoOff, h.ID, h.DF = 6, 6, 0, true
	p[0], p[1], p[2], p[3] = 0x60|tos>>4, tos<<4, 0, 0
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	p[6], p[7] = proto, ttl
	s, d := src.As16(), dst.As16()
	copy(p[8:], s[:])
	copy(p[24:], d[:])
	return nil
}

// Decap removes the outer headers h from the packet in b, and the bytes after its total
// length. h.Proto must be 4 or 41. The inner packet itself, not h.Proto, determines its
// IP version: KLIPS accepts an IPv4 packet in protocol 41. Decap does not check that
// the inner packet is complete; the caller parses it next. Its ECN field is updated
// from h.TOS according to RFC 6040 section 4.2.
//
// Errors are ErrProto, ErrFragment, ErrInner and ErrCE; the packet is then unchanged.
func Decap(b *packet.Buffer, h *packet.Header) error {
	if h.Proto != packet.ProtoIPIP && h.Proto != packet.ProtoIPv6 {
		return ErrProto
	}
	if h.Frag {
		return ErrFragment
	}
	if h.Len < 20 || h.Total < h.Len || h.Total > b.Len() {
		return ErrInner
	}
	inner := packet.Buffer{B: b.B, Off: b.Off + h.Len, End: b.Off + h.Total}
	if version(&inner) == 0 {
		return ErrInner
	}
	if !mark(inner.Bytes(), h.TOS) {
		return ErrCE
	}
	*b = inner
	return nil
}

// version returns the IP version of a packet that has at least the length of its
// header, 0 otherwise.
func version(b *packet.Buffer) uint8 {
	if b.Len() < 20 {
		return 0
	}
	switch v := b.B[b.Off] >> 4; {
	case v == 4, v == 6 && b.Len() >= 40:
		return v
	}
	return 0
}

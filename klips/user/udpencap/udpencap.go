// Package udpencap encapsulates ESP packets in UDP and decapsulates them (RFC 3948, and
// the older draft-ietf-ipsec-udp-encaps-02, which has eight zero bytes before the SPI),
// in place. It also repairs packets in transport mode after network address translation
// (NAT).
package udpencap

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Errors of Encap and Decap.
var (
	// ErrRoom: the buffer has too little room before the packet.
	ErrRoom = errors.New("udpencap: no room in the buffer")
	// ErrTooLong: the packet would exceed packet.MaxSize.
	ErrTooLong = errors.New("udpencap: packet becomes too long")
	// ErrNotESP: the packet contains no ESP: it is a keepalive, IKE, a fragment or too
	// short.
	ErrNotESP = errors.New("udpencap: no ESP in the packet")
)

// Lengths in bytes.
const (
	headerLen = 8 // of a UDP header
	markerLen = 8 // of the zeros of klips.NATTNonIKE
	olderLen  = headerLen + markerLen
)

// Overhead returns the bytes that an encapsulation adds.
func Overhead(t klips.NATTType) int {
	switch t {
	case klips.NATTNonESP:
		return headerLen
	case klips.NATTNonIKE:
		return olderLen
	}
	return 0
}

// Encap inserts a UDP header after the IP header h of the ESP packet in b. Zero ports
// in n mean the default ports of its type. The UDP checksum is 0 over IPv4 (RFC 3948
// section 2.1), and computed over IPv6. h becomes the header of the new packet.
//
// Errors are ErrTooLong and ErrRoom; the packet and h are then unchanged.
func Encap(b *packet.Buffer, h *packet.Header, n klips.NATT) error {
	n = n.WithPorts()
	size := Overhead(n.Type)
	if h.Total+size > packet.MaxSize {
		return ErrTooLong
	}
	if !b.Push(size) {
		return ErrRoom
	}
	p := b.Bytes()
	copy(p, p[size:size+h.Len])
	u := p[h.Len : h.Len+size]
	clear(u)
	binary.BigEndian.PutUint16(u, n.SPort)
	binary.BigEndian.PutUint16(u[2:], n.DPort)
	binary.BigEndian.PutUint16(u[4:], uint16(len(p)-h.Len))
	p[h.ProtoOff] = packet.ProtoUDP
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	h.Proto, h.Total = packet.ProtoUDP, len(p)
	Checksum(p, h)
	return nil
}

// An Outer has the fields of a header that Decap has removed.
type Outer struct {
	Type         klips.NATTType
	SPort, DPort uint16 // in host order
}

// Decap removes the UDP header of the packet in b with the header h, so that it becomes
// an ESP packet. It ignores the UDP checksum, because the ICV protects the content (RFC
// 3948 section 2.1). The UDP header has the length of the ESP packet; later bytes of
// the IP packet are dropped. h becomes the header of the ESP packet.
//
// The error is ErrNotESP; the packet and h are then unchanged, and o has the ports
// unless the packet is a fragment or too short for them.
func Decap(b *packet.Buffer, h *packet.Header) (o Outer, err error) {
	p := b.Bytes()
	if h.Frag || h.Proto != packet.ProtoUDP || h.Total < h.Len+headerLen || len(p) < h.Total {
		return o, ErrNotESP
	}
	o.SPort, o.DPort = binary.BigEndian.Uint16(p[h.Len:]), binary.BigEndian.Uint16(p[h.Len+2:])
	length := int(binary.BigEndian.Uint16(p[h.Len+4:]))
	if length < headerLen || length > h.Total-h.Len {
		return o, ErrNotESP
	}
	if o.Type = TypeOf(p[h.Len : h.Len+length]); o.Type == klips.NATTNone {
		return o, ErrNotESP
	}
	skip := Overhead(o.Type)
	copy(p[skip:], p[:h.Len])
	p[skip+h.ProtoOff] = packet.ProtoESP
	b.End = b.Off + h.Len + length
	b.Pull(skip)
	h.Proto = packet.ProtoESP
	h.Total = b.Len()
	packet.SetTotal(b.Bytes(), h.Total)
	packet.FixChecksum(b.Bytes())
	return o, nil
}

// TypeOf returns the type of a UDP datagram, header included, that contains ESP;
// NATTNone: it contains something else.
func TypeOf(datagram []byte) klips.NATTType {
	switch data := datagram[min(headerLen, len(datagram)):]; {
	case len(data) <= markerLen:
	case [markerLen]byte(data) == [markerLen]byte{}:
		return klips.NATTNonIKE
	case [4]byte(data) != [4]byte{}:
		return klips.NATTNonESP
	}
	return klips.NATTNone // a keepalive (one byte 0xff), or IKE after four zero bytes
}

// Mend repairs the packet in b that came through a NAT in transport mode (RFC 3948
// section 3.1.2). The source becomes oa, the sender's address before the NAT, if that
// is valid and of the packet's family. The TCP or UDP checksum, which is for the
// addresses before the NAT, is computed again. The ICV must have been verified.
func Mend(b *packet.Buffer, h *packet.Header, oa netip.Addr) {
	if oa.IsValid() && oa.BitLen() == h.Src.BitLen() {
		setAddr(b.Bytes(), 12, 8, oa)
		h.Src = oa
	}
	Checksum(b.Bytes(), h)
}

// Readdress makes dst, which must be of the packet's family, the destination of the
// packet in b, and updates all checksums.
func Readdress(b *packet.Buffer, h *packet.Header, dst netip.Addr) {
	setAddr(b.Bytes(), 16, 24, dst)
	h.Dst = dst
	Checksum(b.Bytes(), h)
}

// setAddr writes an address into the header of packet p, at the offset of its family,
// and computes the header's checksum.
func setAddr(p []byte, at4, at6 int, a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		copy(p[at4:], v[:])
	} else {
		v := a.As16()
		copy(p[at6:], v[:])
	}
	packet.FixChecksum(p)
}

// Checksum computes the TCP or UDP checksum of the complete packet p with the header h;
// other packets and fragments are not changed. A UDP packet over IPv4 without a
// checksum stays without.
func Checksum(p []byte, h *packet.Header) {
	var off int
	switch {
	case h.Frag || len(p) < h.Total:
		return
	case h.Proto == packet.ProtoTCP && h.Total >= h.Len+20:
		off = 16
	case h.Proto == packet.ProtoUDP && h.Total >= h.Len+headerLen:
		off = 6
		if h.Version == 4 && p[h.Len+6] == 0 && p[h.Len+7] == 0 {
			return
		}
	default:
		return
	}
	addrs := p[12:20]
	if h.Version == 6 {
		addrs = p[8:40]
	}
	t := p[h.Len:h.Total]
	t[off], t[off+1] = 0, 0
	sum := ^packet.Fold(packet.Sum(t, packet.Sum(addrs, uint64(h.Proto)+uint64(len(t)))))
	if sum == 0 && h.Proto == packet.ProtoUDP {
		sum = 0xffff // 0 means no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(t[off:], sum)
}

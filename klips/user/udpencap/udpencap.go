// Package udpencap puts ESP packets into UDP and takes them out (RFC 3948, and the older
// draft-ietf-ipsec-udp-encaps-02, which has eight zero bytes in front of the SPI), in
// place. It also mends what network address translation (NAT) does to packets in transport
// mode.
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
	// ErrRoom: the buffer has too little room in front.
	ErrRoom = errors.New("udpencap: no room in the buffer")
	// ErrTooLong: the packet would exceed packet.MaxSize.
	ErrTooLong = errors.New("udpencap: packet becomes too long")
	// ErrNotESP: the packet holds no ESP: it is a keepalive, IKE, a fragment or too short.
	ErrNotESP = errors.New("udpencap: no ESP in the packet")
)

// Lengths in bytes.
const (
	headerLen = 8 // of a UDP header
	markerLen = 8 // of the zeros of klips.NATTNonIKE
	olderLen  = headerLen + markerLen
)

// Overhead returns how many bytes an encapsulation adds.
func Overhead(t klips.NATTType) int {
	switch t {
	case klips.NATTNonESP:
		return headerLen
	case klips.NATTNonIKE:
		return olderLen
	}
	return 0
}

// Encap inserts a UDP header behind the IP header of the ESP packet in b, whose header is
// h. Ports that n does not have are those of its type. Over IPv4 the UDP checksum is 0
// (RFC 3948 section 2.1), over IPv6 it is made. h becomes the header of the new packet.
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

// An Outer is what Decap has taken off.
type Outer struct {
	Type         klips.NATTType
	SPort, DPort uint16 // in host order
}

// Decap takes the UDP header off the packet in b, whose header is h, and makes an ESP
// packet of it. The checksum of UDP is not looked at: the ICV protects what is inside (RFC
// 3948 section 2.1). The ESP packet is as long as the UDP header says: what is behind it
// in the IP packet is not part of it. h becomes the header of the ESP packet, and b ends
// with it.
//
// The error is ErrNotESP; the packet and h are then unchanged, and the ports are there
// unless it is a fragment or too short for them.
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
	data := p[h.Len+headerLen : h.Len+length]
	skip := headerLen
	switch {
	case len(data) > markerLen && [markerLen]byte(data) == [markerLen]byte{}:
		o.Type, skip = klips.NATTNonIKE, olderLen
	case len(data) > markerLen && [4]byte(data) != [4]byte{}:
		o.Type = klips.NATTNonESP
	default:
		return o, ErrNotESP // a keepalive (one byte 0xff), or IKE behind four zero bytes
	}
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

// Mend mends the packet in b that came through a NAT in transport mode: its source becomes
// the address that the sender had, oa, if that is valid and of the packet's family, and
// its TCP or UDP checksum, which was made for the addresses on the other side of the NAT,
// is made anew (RFC 3948 section 3.1.2). The ICV must have vouched for the data.
func Mend(b *packet.Buffer, h *packet.Header, oa netip.Addr) {
	if oa.IsValid() && oa.BitLen() == h.Src.BitLen() {
		setAddr(b.Bytes(), 12, 8, oa)
		h.Src = oa
	}
	Checksum(b.Bytes(), h)
}

// Readdress makes dst, which is of the packet's family, the destination of the packet in
// b, with all checksums.
func Readdress(b *packet.Buffer, h *packet.Header, dst netip.Addr) {
	setAddr(b.Bytes(), 16, 24, dst)
	h.Dst = dst
	Checksum(b.Bytes(), h)
}

// setAddr writes an address into the header of packet p, at the offset of its family, and
// makes the checksum of the header.
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

// Checksum makes the TCP or UDP checksum of the whole packet p, whose header is h; others
// and fragments stay as they are. A UDP packet over IPv4 that has none gets none.
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
		sum = 0xffff // 0 means that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(t[off:], sum)
}

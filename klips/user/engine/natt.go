package engine

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// NAT traversal: ESP inside UDP (RFC 3948, and the older draft with eight zero
// bytes in front of the SPI).

// encapUDP inserts a UDP header (RFC 3948) behind the IP header. Ports that are not
// known are those of the encapsulation's type.
func encapUDP(b *packet.Buffer, h *packet.Header, n klips.NATT) bool {
	n = n.WithPorts()
	size := 8
	if n.Type == klips.NATTNonIKE {
		size = 16
	}
	if h.Total+size > packet.MaxSize || !b.Push(size) {
		return false
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
	transportChecksum(p, h) // IPv4 goes without, IPv6 must have one
	return true
}

// decapUDP takes the UDP header off a packet that may carry ESP, and notes what
// kind of encapsulation it was. false: it is a keepalive, IKE, or no ESP at all,
// and not for us.
func (c *inPacket) decapUDP() bool {
	if c.h.Frag || c.h.Total < c.h.Len+8 {
		return false
	}
	p := c.b.Bytes()
	c.port, c.toPort = binary.BigEndian.Uint16(p[c.h.Len:]), binary.BigEndian.Uint16(p[c.h.Len+2:])
	data := p[c.h.Len+8:]
	skip := 8
	switch {
	case len(data) > 8 && [8]byte(data) == [8]byte{}:
		c.natt, skip = klips.NATTNonIKE, 16
	case len(data) > 8 && [4]byte(data) != [4]byte{}:
		c.natt = klips.NATTNonESP
	default:
		return false // a keepalive (one byte 0xff), or IKE behind four zero bytes
	}
	copy(p[skip:], p[:c.h.Len])
	p[skip+c.h.ProtoOff] = packet.ProtoESP
	c.b.Pull(skip)
	c.h.Proto = packet.ProtoESP
	c.h.Total -= skip
	packet.SetTotal(c.b.Bytes(), c.h.Total)
	packet.FixChecksum(c.b.Bytes())
	return true
}

// fixTransport mends a packet that came through a NAT in transport mode: its
// source becomes the address that the sender had, if that is known, and its TCP
// or UDP checksum, which was made for the addresses on the other side of the
// NAT, is made anew (RFC 3948 section 3.1.2). The ICV has vouched for the data.
func fixTransport(b *packet.Buffer, h *packet.Header, n klips.NATT) {
	p := b.Bytes()
	if n.OA.IsValid() && n.OA.BitLen() == h.Src.BitLen() {
		if h.Version == 4 {
			copy(p[12:16], n.OA.AsSlice())
		} else {
			copy(p[8:24], n.OA.AsSlice())
		}
		h.Src = n.OA
		packet.FixChecksum(p)
	}
	transportChecksum(p, h)
}

// transportChecksum computes the TCP or UDP checksum of a whole packet; others
// and fragments stay as they are. A UDP packet over IPv4 that has none gets none.
func transportChecksum(p []byte, h *packet.Header) {
	var off int
	switch {
	case h.Frag:
		return
	case h.Proto == packet.ProtoTCP && h.Total >= h.Len+20:
		off = 16
	case h.Proto == packet.ProtoUDP && h.Total >= h.Len+8:
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
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(t[off:], sum)
}

// toPeer makes the SA's destination that of a packet in transport mode through a
// NAT, as KLIPS does: the address that the eroute was written for may be one
// that only the peer knows.
func toPeer(b *packet.Buffer, h *packet.Header, chain []*sadb.SA) {
	sa := chain[0]
	if sa.ID.Proto != klips.ProtoESP || sa.NATT.Type == klips.NATTNone ||
		h.Dst == sa.ID.Dst || h.Dst.BitLen() != sa.ID.Dst.BitLen() {
		return
	}
	p := b.Bytes()
	if h.Version == 4 {
		a := sa.ID.Dst.As4()
		copy(p[16:], a[:])
	} else {
		a := sa.ID.Dst.As16()
		copy(p[24:], a[:])
	}
	h.Dst = sa.ID.Dst
	packet.FixChecksum(p)
	transportChecksum(p, h)
}

package engine

import (
	"encoding/binary"
	"net/netip"

	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// selector returns the fields of a packet that are compared with eroutes on the way out,
// and with inbound policies on the way in. The ports are those of a TCP or UDP header.
// They are 0 in fragments other than the first, and if the packet ends before them.
func selector(p []byte, h *packet.Header) eroute.Packet {
	s := eroute.Packet{Src: h.Src, Dst: h.Dst, Proto: h.Proto}
	if (h.Proto == packet.ProtoTCP || h.Proto == packet.ProtoUDP) && h.FragOff == 0 && h.Total >= h.Len+4 {
		s.SrcPort = binary.BigEndian.Uint16(p[h.Len:])
		s.DstPort = binary.BigEndian.Uint16(p[h.Len+2:])
	}
	return s
}

// admits reports whether the inbound policy of an SA admits a packet. A packet without
// readable ports matches no policy with a port. So a fragment other than the first is
// discarded (RFC 4301 section 4.4.1.1), because its flow is not known.
func admits(sa *sadb.SA, p []byte, h *packet.Header) bool {
	policy := sa.Policy()
	if policy == nil {
		return true
	}
	s := selector(p, h)
	if s.Matches(policy) {
		return true
	}
	// Any router on the path may send an ICMP error. It belongs to the flow of the packet
	// that it quotes (RFC 4301 section 6.2).
	s, ok := answers(p, h)
	return ok && s.Matches(policy)
}

// answers returns the selector of the answers to the packet that an ICMP error quotes. ok
// is false if p is no such error, or is not sent to the sender of that packet. The ports
// are 0 if the quoted packet is a fragment other than the first, or has IPv6 extension
// headers.
func answers(p []byte, h *packet.Header) (s eroute.Packet, ok bool) {
	if !isICMPError(p, h) || h.Total < h.Len+8 {
		return s, false
	}
	q, n := p[h.Len+8:h.Total], 40 // the quoted packet, and the length of its IP header
	switch {
	case h.Version == 4 && len(q) >= 20 && q[0]>>4 == 4:
		s.Src, s.Dst, s.Proto = netip.AddrFrom4([4]byte(q[16:])), netip.AddrFrom4([4]byte(q[12:])), q[9]
		if n = max(20, int(q[0]&0xf)*4); binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
			n = len(q)
		}
	case h.Version == 6 && len(q) >= 40 && q[0]>>4 == 6:
		s.Src, s.Dst, s.Proto = netip.AddrFrom16([16]byte(q[24:])), netip.AddrFrom16([16]byte(q[8:])), q[6]
	default:
		return s, false
	}
	if (s.Proto == packet.ProtoTCP || s.Proto == packet.ProtoUDP) && len(q) >= n+4 {
		s.SrcPort, s.DstPort = binary.BigEndian.Uint16(q[n+2:]), binary.BigEndian.Uint16(q[n:])
	}
	return s, s.Dst == h.Dst
}

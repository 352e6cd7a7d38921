package engine

import "github.com/klips-go/ipsec/klips/user/packet"

// What an SA in transport mode has protected must not be quoted in clear: the kernel
// answers an IP protocol that nobody takes with an ICMP error, which has the beginning
// of the packet in it, and goes where the route to the peer leads.

// quiet are the protocols about which the host has been asked to be quiet, on one device:
// a bit for each, of IPv4 and of IPv6. It belongs to the inbound worker.
type quiet [2][256 / 64]uint64

// about keeps the host from answering a packet of header h that is to arrive on the link,
// and reports whether it could. All hosts take TCP, UDP and ICMP.
func (q *quiet) about(link Link, h *packet.Header) bool {
	v6 := h.Version == 6
	switch h.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		return true
	case packet.ProtoICMP:
		if !v6 {
			return true
		}
	case packet.ProtoICMPv6:
		if v6 {
			return true
		}
	}
	asked := &q[0]
	if v6 {
		asked = &q[1]
	}
	word, bit := &asked[h.Proto/64], uint64(1)<<(h.Proto%64)
	if *word&bit == 0 {
		if link.Quiet(h.Proto, v6) != nil {
			return false
		}
		*word |= bit
	}
	return true
}

package engine

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// selector is what of a packet is compared with eroutes on the way out and with
// inbound policies on the way in. There are ports where there is a TCP or UDP header
// to read them from: not in later fragments, nor where the packet ends before them.
func selector(p []byte, h *packet.Header) eroute.Packet {
	s := eroute.Packet{Src: h.Src, Dst: h.Dst, Proto: h.Proto}
	if (h.Proto == packet.ProtoTCP || h.Proto == packet.ProtoUDP) && h.FragOff == 0 && h.Total >= h.Len+4 {
		s.SrcPort = binary.BigEndian.Uint16(p[h.Len:])
		s.DstPort = binary.BigEndian.Uint16(p[h.Len+2:])
	}
	return s
}

// admits reports whether the inbound policy of an SA admits a packet. A packet
// without ports that can be read meets no policy with a port: a later fragment is
// discarded (RFC 4301 section 4.4.1.1), because nothing tells whose flow it is of.
func admits(sa *sadb.SA, p []byte, h *packet.Header) bool {
	policy := sa.Policy()
	if policy == nil {
		return true
	}
	s := selector(p, h)
	return s.Matches(policy)
}

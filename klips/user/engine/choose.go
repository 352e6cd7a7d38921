package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// choose returns the SA that begins the group for a packet with header h and selector s
// that matches eroute r; nil: it does not exist, and the packet must be dropped.
//
// The packets of an eroute with further SAs are spread over all of its SAs, so that several
// processors, of the peer too, can work for one pair of networks (RFC 9611). The flow of a
// packet decides, so all packets of a flow have one SA, whose sequence numbers keep their
// order. The flow is the addresses, the protocol, and the ports of TCP and UDP. Fragments
// have no ports here, the first one neither, so those of one datagram stay together.
//
// The first SA of the eroute takes the packets of a further one that does not exist, or
// has no keys yet, as the fallback SA of RFC 9611 does. The others do not stand in for
// the first one.
func (e *Engine) choose(r *eroute.Entry, h *packet.Header, s *eroute.Packet) *sadb.SA {
	if also := r.Also(); len(also) > 0 {
		flow := *s
		if h.Frag {
			flow.SrcPort, flow.DstPort = 0, 0
		}
		if i := flow.Spread(1 + len(also)); i > 0 {
			if sa := e.sas.Lookup(also[i-1]); sa != nil && sa.State() != klips.Larval {
				return sa
			}
		}
	}
	return e.sas.Lookup(r.ID)
}

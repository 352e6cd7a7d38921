package engine

import (
	"github.com/klips-go/ipsec/klips/user/overhead"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

func growthOf(sa *sadb.SA) overhead.Growth {
	return overhead.Of(sa.ID, sa.Transform, sa.NATT.Type, sa.Align8)
}

func shapeOf(h *packet.Header) overhead.Packet {
	return overhead.Packet{Version: h.Version, Header: h.Len, Total: h.Total}
}

// added returns how many bytes the SAs of a group add to a packet, before its payload
// and after it. The UDP header counts as after it, as in KLIPS.
func added(p overhead.Packet, group []*sadb.SA) (front, behind int) {
	s := overhead.Sum{Packet: p}
	for _, sa := range group {
		s.Add(&sa.Data.(*states).growth)
	}
	return s.Front, s.Behind
}

// longest returns the longest packet of a shape, in bytes, of which a group makes at most
// limit bytes. All shorter packets fit, too. It is never shorter than the header.
func longest(p overhead.Packet, group []*sadb.SA, limit int) int {
	return overhead.Longest(p, limit, func(p overhead.Packet) int {
		front, behind := added(p, group)
		return front + behind
	})
}

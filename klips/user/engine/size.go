package engine

import (
	"sort"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// growth is what an SA adds to packets, as if nothing could be compressed.
type growth struct {
	esp    esp.Size
	ah     ah.Size
	header int // of a tunnel
	udp    int
}

func growthOf(sa *sadb.SA) (g growth) {
	switch sa.ID.Proto {
	case klips.ProtoTun:
		g.header = ipip.Overhead(sa.ID.Dst)
	case klips.ProtoESP:
		g.esp, g.udp = esp.SizeOf(sa.Transform), udpencap.Overhead(sa.NATT.Type)
	case klips.ProtoAH:
		g.ah = ah.SizeOf(sa.Transform.Auth, sa.Align8)
	}
	return g
}

// A shape is what of a packet counts for what a group makes of it.
type shape struct {
	version uint8
	header  int // length of its IP header, with the extension headers that stay in front
	total   int
}

func shapeOf(h *packet.Header) shape { return shape{h.Version, h.Len, h.Total} }

// overhead returns how many bytes the SAs of a group add to a packet, in front of its
// payload and behind. The header of UDP counts as behind, as with KLIPS.
func overhead(s shape, group []*sadb.SA) (front, behind int) {
	payload, natt := s.total-s.header, 0
	for _, sa := range group {
		g := &sa.Data.(*states).growth
		f, b := g.esp.Overhead(payload)
		switch sa.ID.Proto {
		case klips.ProtoTun:
			f = g.header
			s.version = 4
			if sa.ID.Dst.Is6() {
				s.version = 6
			}
			// What was the header is payload now, what is added is header.
			payload += s.header - f
			s.header = f
		case klips.ProtoAH:
			f = g.ah.Overhead(s.version)
		}
		if natt == 0 {
			natt = g.udp
		}
		front, behind = front+f, behind+b
		payload += f + b
	}
	return front, behind + natt
}

// longest returns how long a packet of a shape may be at most, in bytes, for what a group
// makes of it to have limit bytes; none is shorter than its header. All shorter ones fit,
// too.
func longest(s shape, group []*sadb.SA, limit int) int {
	more := sort.Search(limit, func(n int) bool {
		s.total = s.header + n
		front, behind := overhead(s, group)
		return s.total+front+behind > limit
	})
	return s.header + more - 1
}

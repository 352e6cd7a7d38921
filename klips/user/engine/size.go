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

// growth is how much an SA adds to packets, if nothing can be compressed.
type growth struct {
	esp    esp.Size
	ah     ah.Size
	header int // length of a tunnel header
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

// A shape has the lengths of a packet on which the growth by a group depends.
type shape struct {
	version uint8
	header  int // of its IP header, with the extension headers that stay before ESP or AH
	total   int
}

func shapeOf(h *packet.Header) shape { return shape{h.Version, h.Len, h.Total} }

// overhead returns how many bytes the SAs of a group add to a packet, before its payload
// and after it. The UDP header counts as after it, as in KLIPS.
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
			// The old header is now payload, and the added header is the header.
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

// longest returns the longest packet of a shape, in bytes, of which a group makes at most
// limit bytes. All shorter packets fit, too. It is never shorter than the header.
func longest(s shape, group []*sadb.SA, limit int) int {
	more := sort.Search(limit, func(n int) bool {
		s.total = s.header + n
		front, behind := overhead(s, group)
		return s.total+front+behind > limit
	})
	return s.header + more - 1
}

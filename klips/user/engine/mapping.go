package engine

import (
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// mappingGap is the shortest time between two reports about where the peer of
// one SA sends from, in nanoseconds: packets of before and after a change may
// overtake each other.
const mappingGap = int64(time.Second)

// A mapping is what key daemons know of where the peer of an SA in UDP sends
// from. It belongs to the inbound worker.
type mapping struct {
	told netip.AddrPort // where to they were told it has moved; the zero value: nowhere
	at   int64          // when they were told last, 0: never
}

// locate compares where a packet comes from with where the SA's peer should be.
// elsewhere: its source is another address. moved: it came through UDP and has
// another address or port, as when a NAT has chosen new ones. What the SA does
// not know is not compared.
func (c *inPacket) locate(sa *sadb.SA) (elsewhere, moved bool) {
	elsewhere = sa.Src.IsValid() && !sa.Src.IsUnspecified() && sa.Src != c.h.Src
	otherPort := sa.NATT.SPort != 0 && sa.NATT.SPort != c.port
	return elsewhere, c.inUDP(sa) && (elsewhere || otherPort)
}

// inUDP reports whether the SA in front is the ESP SA that the packet's UDP
// encapsulation is for.
func (c *inPacket) inUDP(sa *sadb.SA) bool {
	return c.first && c.natt != klips.NATTNone && sa.ID.Proto == klips.ProtoESP && sa.NATT.Type == c.natt
}

// follow takes note of where an authentic packet in UDP came from, and tells key
// daemons of a peer that has moved, once.
func (w *inWorker) follow(c *inPacket, sa *sadb.SA, m *mapping) {
	if !c.moved {
		m.told = netip.AddrPort{}
		return
	}
	to := netip.AddrPortFrom(c.h.Src, c.port)
	if to == m.told || m.at != 0 && w.now-m.at < mappingGap {
		return
	}
	m.at, m.told = w.now, netip.AddrPort{}
	src := sa.Src
	if !src.IsValid() {
		src = netip.IPv4Unspecified()
		if sa.ID.Dst.Is6() {
			src = netip.IPv6Unspecified()
		}
	}
	if (*w.e.events.Load()).NewMapping(sa.ID, netip.AddrPortFrom(src, sa.NATT.SPort), to) {
		m.told = to
	}
}

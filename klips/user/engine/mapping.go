package engine

import (
	"net/netip"
	"time"

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

// follow takes note of where an authentic packet in UDP came from, and tells key
// daemons of a peer that has moved, once.
func (w *inWorker) follow(c *inPacket, l *layer, sa *sadb.SA, m *mapping) {
	if !l.moved {
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

package engine

import (
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips/user/sadb"
)

// mappingGap is the shortest time between two reports about the address of one SA's peer,
// in nanoseconds. Packets from before and after a change can arrive in the wrong order.
const mappingGap = int64(time.Second)

// A mapping is the last address and port of an SA's peer that key daemons know. It is for
// SAs in UDP. The worker for inbound packets owns it in whose lane the SA is.
type mapping struct {
	told netip.AddrPort // the new address that was reported last; the zero value: none
	at   int64          // when it was reported last, 0: never
}

// follow checks from where an authentic packet in UDP has come. It notes a new address of the
// peer, and reports it to key daemons once.
func (w *inWorker) follow(c *inPacket, l *layer, sa *sadb.SA, m *mapping) {
	heard := &sa.Data.(*states).heard
	if !l.moved {
		m.told = netip.AddrPort{}
		if heard.Load() != nil {
			heard.Store(nil)
		}
		return
	}
	to := netip.AddrPortFrom(c.h.Src, c.port)
	if to == m.told || m.at != 0 && w.now-m.at < mappingGap {
		return
	}
	m.at, m.told = w.now, netip.AddrPort{}
	if p := heard.Load(); p == nil || *p != to {
		heard.Store(new(to))
	}
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

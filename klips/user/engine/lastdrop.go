package engine

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// lastDrops has the newest dropped packet for each reason, so that a command can show what
// the counters have counted. No worker waits for another one here: if two drop packets for
// one reason at the same time, one of the packets is recorded.
type lastDrops [drop.Number]struct {
	mu sync.Mutex
	at int64   // as Engine.now; 0: no packet was dropped
	on *device // nil: none
	klips.Dropped
}

// note records a dropped packet. p is what is left of it, from an IP header on. It is not
// kept.
func (l *lastDrops) note(why drop.Reason, now int64, d *device, inbound bool, p []byte, sa *sadb.SA) {
	if int(why) >= len(l) || !l[why].mu.TryLock() {
		return
	}
	s := &l[why]
	defer s.mu.Unlock()
	s.at, s.on = now, d
	s.Dropped = klips.Dropped{Inbound: inbound}
	if sa != nil {
		s.SA = sa.ID
	}
	h, ok := packet.ParseIP(p)
	if !ok {
		return
	}
	s.Src, s.Dst, s.Proto, s.Length = h.Src, h.Dst, h.Proto, h.Total
	sel := selector(p, &h)
	s.SrcPort, s.DstPort = sel.SrcPort, sel.DstPort
	body := p[h.Len:h.Total]
	if h.Proto == packet.ProtoAH && len(body) >= 12 {
		body = body[4:]
	}
	if (h.Proto == packet.ProtoESP || h.Proto == packet.ProtoAH) && h.FragOff == 0 && len(body) >= 8 {
		s.SPI, s.Sequence = klips.SPI(binary.BigEndian.Uint32(body)), binary.BigEndian.Uint32(body[4:])
	}
}

// LastDrops returns the newest dropped packet for each reason, newest first. It has packets
// of this process only, and not those whose headers were not at hand when they were dropped.
func (e *Engine) LastDrops() (all []klips.Dropped) {
	for i := range e.lastDrops {
		s := &e.lastDrops[i]
		s.mu.Lock()
		if s.at != 0 {
			p := s.Dropped
			p.Reason, p.Time = drop.Reason(i).String(), e.start.Add(time.Duration(s.at-1))
			if s.on != nil {
				p.Device = s.on.link.Name()
			}
			all = append(all, p)
		}
		s.mu.Unlock()
	}
	slices.SortStableFunc(all, func(a, b klips.Dropped) int { return b.Time.Compare(a.Time) })
	return all
}

package engine

import (
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/mss"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// TCP of the host itself chooses segments by the MTU of the virtual device. That of hosts
// behind it does not know that MTU, and where ICMP errors do not reach them their
// connections stand still. With the knob mss both ends are told of segments that fit.

// clampOut lowers the MSS of what goes out through a group: the far end then sends segments
// that fit, if what it adds is the same.
func (w *outWorker) clampOut(b *packet.Buffer, h *packet.Header, group []*sadb.SA) {
	if s := b.Bytes()[h.Len:h.Total]; mss.IsSYN(s) {
		mss.Clamp(s, segmentSize(h, group, w.limit(group)))
	}
}

// clampIn lowers the MSS of what comes in: its receiver then sends segments that fit the
// group by which they go.
func (w *inWorker) clampIn(d *device, c *inPacket) {
	s := c.b.Bytes()[c.h.Len:c.h.Total]
	a := d.att.Load()
	if a == nil || !mss.IsSYN(s) {
		return
	}
	there := selector(c.b.Bytes(), &c.h)
	back := eroute.Packet{Src: there.Dst, Dst: there.Src, Proto: there.Proto, SrcPort: there.DstPort, DstPort: there.SrcPort}
	r := w.e.routes.Lookup(&back)
	if r == nil || r.ID.IsMagic() {
		return
	}
	if sa := w.e.sas.Lookup(r.ID); sa != nil {
		group := sa.Chain()
		mss.Clamp(s, segmentSize(&c.h, group, limit(group[len(group)-1], a.wire.MTU(), w.now)))
	}
}

// segmentSize is how many bytes a segment has at most behind a TCP header without options,
// in packets of the family of h, that a group makes at most limit bytes of.
func segmentSize(h *packet.Header, group []*sadb.SA, limit int) int {
	if h.Version == 4 {
		return longest(shape{version: 4, header: 20}, group, limit) - 20 - mss.HeaderLen
	}
	return max(longest(shape{version: 6, header: 40}, group, limit), minMTU6) - 40 - mss.HeaderLen
}

package engine

import (
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/mss"
	"github.com/klips-go/ipsec/klips/user/overhead"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// TCP of the host itself chooses segments by the MTU of the virtual device. TCP of hosts
// behind it does not know that MTU. If ICMP errors do not reach these hosts, their
// connections stop. With the knob mss both ends learn an MSS that fits.

// clampOut lowers the MSS in segments that a group sends. Then the segments from the peer
// fit, if its SAs add as much.
func (w *outWorker) clampOut(b *packet.Buffer, h *packet.Header, group []*sadb.SA) {
	if s := b.Bytes()[h.Len:h.Total]; mss.IsSYN(s) {
		mss.Clamp(s, segmentSize(h, group, w.limit(group)))
	}
}

// clampIn lowers the MSS in segments that arrive. Then the receiver's own segments fit
// the group that sends them.
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
	if sa := w.e.choose(r, &c.h, &back); sa != nil {
		group := sa.Chain()
		mss.Clamp(s, segmentSize(&c.h, group, limitBy(group[len(group)-1], a.wire, w.now)))
	}
}

// segmentSize returns how many bytes a segment can have after a TCP header without
// options, in packets of the family of h, if a group makes at most limit bytes of each
// packet.
func segmentSize(h *packet.Header, group []*sadb.SA, limit int) int {
	if h.Version == 4 {
		return longest(overhead.Plain(4, 0), group, limit) - 20 - mss.HeaderLen
	}
	return max(longest(overhead.Plain(6, 0), group, limit), minMTU6) - 40 - mss.HeaderLen
}

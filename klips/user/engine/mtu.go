package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// minMTU6 is what every IPv6 link carries (RFC 8200 section 5).
const minMTU6 = 1280

// Values of the knob mtu_rule.
const (
	mtuExact = 0 // what fits is sent, and what is reported fits
	mtuKLIPS = 1
)

// fits applies the MTU rule before the packet is transformed: it reports a packet that
// will be too long to its sender, and reports whether to go on.
func (w *outWorker) fits(b *packet.Buffer, h *packet.Header, group []*sadb.SA) bool {
	mtu, tell, why := w.mtuRule(h, group)
	if tell {
		w.icmp.tooBig(w.e, b.Bytes(), h, mtu)
	}
	if why != drop.None {
		w.error(why, group[0])
	}
	return why == drop.None
}

// mtuRule is whether the sender of a packet is told what MTU it must keep to (RFC 4301
// section 8.2), and why the packet is not sent, if it is not.
//
// What may be cut is cut after it has been protected. Of the others, an IPv4 packet in a
// tunnel is reported and sent all the same, as KLIPS does it: the outer packet may be cut.
// An IPv6 packet stays behind, unless it is short enough for any link, and so does an IPv4
// packet in transport mode, which has its DF on the outside.
//
// Where the knob icmp is off nobody is told, and an IPv6 packet is cut on the outside. But
// a sender must hear of what is not sent, or its packets end there for ever.
func (w *outWorker) mtuRule(h *packet.Header, group []*sadb.SA) (mtu int, tell bool, why drop.Reason) {
	front, behind := overhead(shapeOf(h), group)
	size, limit := h.Total+front+behind, w.limit(group)
	switch {
	case size > packet.MaxSize:
		return 0, false, drop.TooBig
	case w.e.knobs.mtuRule.Load() == mtuKLIPS:
		return w.mtuRuleOfKLIPS(h, group, limit, front, behind)
	case size <= limit, !h.DF:
		return 0, false, drop.None
	}
	mtu, tell = longest(shapeOf(h), group, limit), w.e.knobs.icmp.on()
	switch {
	case h.Version == 6 && (!tell || h.Total <= max(mtu, minMTU6)):
		return 0, false, drop.None
	case h.Version == 6:
		return max(mtu, minMTU6), true, drop.TooBig
	case hasTunnel(group):
		return mtu, tell, drop.None
	}
	return mtu, true, drop.TooBig
}

// mtuSlack is a safety margin in the MTU rule of KLIPS.
const mtuSlack = 5

// mtuRuleOfKLIPS is the same as KLIPS has it. Some of what would fit is reported. Pings are
// not, and in transport mode a packet is protected before it is found too long.
func (w *outWorker) mtuRuleOfKLIPS(h *packet.Header, group []*sadb.SA, limit, front, behind int) (mtu int, tell bool, why drop.Reason) {
	mtu = limit
	if front+behind > 0 {
		mtu -= front + (behind+2)&^7 + mtuSlack
	}
	if h.Version == 6 {
		mtu = max(mtu, minMTU6)
	}
	switch {
	case !h.DF || h.Total <= mtu, !w.e.knobs.icmp.on():
		return mtu, false, drop.None
	case h.Version == 6:
		return mtu, true, drop.TooBig
	}
	return mtu, h.Proto != packet.ProtoICMP, drop.None
}

func hasTunnel(chain []*sadb.SA) bool {
	for _, sa := range chain {
		if sa.ID.Proto == klips.ProtoTun {
			return true
		}
	}
	return false
}

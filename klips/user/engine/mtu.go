package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// minMTU6 is the MTU that every IPv6 link has at least (RFC 8200 section 5).
const minMTU6 = 1280

// Values of the knob mtu_rule.
const (
	mtuExact = 0 // all that fits is sent, and the reported MTU fits
	mtuKLIPS = 1
)

// fits applies the MTU rule before the packet is transformed. It sends an ICMP error
// about a packet that will be too long, and reports whether the packet may go on.
func (w *outWorker) fits(b *packet.Buffer, h *packet.Header, group []*sadb.SA) bool {
	mtu, tell, why := w.e.mtuRule(h, group, w.limit(group))
	if tell {
		w.icmp.tooBig(w.e, b.Bytes(), h, mtu)
	}
	if why != drop.None {
		w.error(b, why, group[0])
	}
	return why == drop.None
}

// mtuRule returns whether the sender of a packet gets an ICMP error, with which MTU (RFC
// 4301 section 8.2), and why the packet is not sent, if it is not. limit is how long the
// protected packets may be.
//
// A packet that may be fragmented is protected first and fragmented afterwards. Other
// packets cause an ICMP error. An IPv4 packet in a tunnel is sent all the same, as in
// KLIPS: the outer packet may be fragmented. An IPv6 packet is not sent, unless it is
// short enough for any link. An IPv4 packet in transport mode is not sent, since DF is in
// its only header.
//
// If the knob icmp is off, no ICMP error is sent, and an IPv6 packet is fragmented after
// it was protected. But the sender of a packet that is not sent always gets the error, or
// all its packets would be lost.
func (e *Engine) mtuRule(h *packet.Header, group []*sadb.SA, limit int) (mtu int, tell bool, why drop.Reason) {
	front, behind := added(shapeOf(h), group)
	size := h.Total + front + behind
	switch {
	case size > packet.MaxSize:
		return 0, false, drop.TooBig
	case e.knobs.mtuRule.Load() == mtuKLIPS:
		return e.mtuRuleOfKLIPS(h, group, limit, front, behind)
	case size <= limit, !h.DF:
		return 0, false, drop.None
	}
	mtu, tell = longest(shapeOf(h), group, limit), e.knobs.icmp.on()
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

// mtuRuleOfKLIPS is the rule of KLIPS. It reports some packets that would fit. It does
// not report pings. In transport mode a packet is protected before it is found too long.
func (e *Engine) mtuRuleOfKLIPS(h *packet.Header, group []*sadb.SA, limit, front, behind int) (mtu int, tell bool, why drop.Reason) {
	mtu = limit
	if front+behind > 0 {
		mtu -= front + (behind+2)&^7 + mtuSlack
	}
	if h.Version == 6 {
		mtu = max(mtu, minMTU6)
	}
	switch {
	case !h.DF || h.Total <= mtu, !e.knobs.icmp.on():
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

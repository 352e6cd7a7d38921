package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// mtuSlack is a safety margin in the MTU rule of KLIPS.
const mtuSlack = 5

// minMTU6 is what every IPv6 link carries (RFC 8200 section 5).
const minMTU6 = 1280

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

// mtuRule is whether the sender of a packet is told what MTU it must keep to, and why
// the packet is not sent, if it is not.
//
// An IPv4 packet with DF is reported and goes on all the same: in a tunnel the
// outer packet may be fragmented, and in transport mode, where the packet keeps
// its DF, send finds it too long. An IPv6 packet stays behind unless it is short
// enough for any link.
//
// In transport mode an IPv6 packet of the host itself that is no TCP segment goes
// out in pieces instead: told of the MTU, the host would cut it before it gets
// here, and pieces must not be protected one by one (RFC 4303 section 3.3.4).
func (w *outWorker) mtuRule(h *packet.Header, group []*sadb.SA) (mtu int, tell bool, why drop.Reason) {
	front, behind := overhead(shapeOf(h), group)
	if h.Total+front+behind > packet.MaxSize {
		return 0, false, drop.TooBig
	}
	mtu = w.att.wire.MTU()
	if front+behind > 0 {
		mtu -= front + (behind+2)&^7 + mtuSlack
	}
	if h.Version == 6 {
		mtu = max(mtu, minMTU6)
	}
	switch {
	case !h.DF || h.Total <= mtu:
		return mtu, false, drop.None
	case h.Version == 6 && h.Proto != packet.ProtoTCP && !hasTunnel(group) && w.e.host.IsLocal(h.Src):
		return mtu, false, drop.None
	case !w.e.knobs.icmp.on():
		return mtu, false, drop.None
	case h.Version == 6:
		return mtu, true, drop.TooBig
	}
	return mtu, true, drop.None
}

func hasTunnel(chain []*sadb.SA) bool {
	for _, sa := range chain {
		if sa.ID.Proto == klips.ProtoTun {
			return true
		}
	}
	return false
}

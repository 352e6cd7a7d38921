package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// What becomes of an outbound packet is decided here, and done in out.go. What is here
// looks at the packet and at the tables, and changes and counts nothing: it can be asked
// what would become of a packet, too.

// An action is what is done with an outbound packet.
type action uint8

const (
	discard action = iota // it is dropped
	reject                // it is dropped, and its sender is told
	bypass                // it is sent in clear, whatever its eroute is
	pass                  // it is sent in clear
	protect               // it is sent through the group that its eroute names
	hold                  // it is kept until its eroute is replaced
	trap                  // key daemons are asked for an SA
)

// A decision is what is done with an outbound packet.
type decision struct {
	do    action
	why   drop.Reason   // it is dropped
	route *eroute.Entry // the narrowest that is for it; nil: there is none
}

// decide is what is done with packet p of header h and selector s.
func (e *Engine) decide(p []byte, h *packet.Header, s *eroute.Packet) decision {
	switch {
	case h.Options:
		return decision{why: drop.IPOptions}
	case h.TTL == 0:
		return decision{why: drop.TTL}
	}
	r := e.routes.Lookup(s)
	switch {
	case e.isOwn(h, s, r):
		return decision{do: bypass, route: r}
	case r != nil && !r.ID.IsMagic():
		return decision{do: protect, route: r}
	case r == nil || r.ID.SPI == klips.SPIPass:
		if a := e.answerRoute(p, h); a != nil {
			return decision{do: protect, route: a}
		}
	}
	if r == nil {
		return decision{why: drop.NoEroute}
	}
	switch r.ID.SPI {
	case klips.SPIPass:
		return decision{do: pass, route: r}
	case klips.SPIDrop:
		return decision{why: drop.ErouteDrop, route: r}
	case klips.SPIReject:
		return decision{do: reject, why: drop.ErouteReject, route: r}
	case klips.SPIHold:
		return decision{do: hold, route: r}
	case klips.SPITrap, klips.SPITrapSubnet:
		return decision{do: trap, route: r}
	}
	return decision{why: drop.ErouteUnknown, route: r}
}

// answerRoute returns the eroute to an SA for the answers to the packet that an ICMP error
// quotes; nil if p is no such error, or there is none. An error that no SA of its own is for
// goes the way of these answers (RFC 4301 section 6.2): it may come from any router on the
// path, and quotes what they protect.
func (e *Engine) answerRoute(p []byte, h *packet.Header) *eroute.Entry {
	s, ok := answers(p, h)
	if !ok {
		return nil
	}
	if r := e.routes.Lookup(&s); r != nil && !r.ID.IsMagic() {
		return r
	}
	return nil
}

// isOwn reports whether a packet of the host itself, for which eroute r is, is what key
// daemons and the stack itself send to peers: ESP, AH, or IKE, unless it is to be
// tunnelled to another gateway.
func (e *Engine) isOwn(h *packet.Header, s *eroute.Packet, r *eroute.Entry) bool {
	switch {
	case h.Proto == packet.ProtoESP, h.Proto == packet.ProtoAH: // only root can send them
	case h.Proto == packet.ProtoUDP && e.isIKE(h, s.SrcPort):
	default:
		return false
	}
	return e.host.IsLocal(h.Src) && (r == nil || r.ID.Dst == h.Dst || r.ID.Dst.IsUnspecified())
}

// refusal is the first SA of a group that must not send a packet now, and why; nil: all
// may send it, and soft reports whether a soft lifetime limit of one has passed.
func refusal(group []*sadb.SA, now int64) (sa *sadb.SA, why drop.Reason, soft bool) {
	for _, sa := range group {
		if s := sa.State(); s != klips.Mature && s != klips.Dying {
			return sa, drop.NotUsable, false
		}
		hard, passed, _ := sa.Expired(now)
		switch {
		case hard:
			return sa, drop.Expired, false
		case sa.Exhausted(): // the number must not cycle (RFC 4303 section 3.3.3)
			return sa, drop.NoNumbers, false
		case sa.AtLimit():
			return sa, drop.NotReserved, false
		}
		soft = soft || passed
	}
	return nil, drop.None, soft
}

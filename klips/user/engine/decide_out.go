package engine

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// This file decides about outbound packets; out.go carries the decisions out. The code
// here reads the packet and the tables. It changes nothing and counts nothing, so it can
// also answer what would happen to a packet.

// An action is what to do with an outbound packet.
type action uint8

const (
	discard action = iota // drop it
	reject                // drop it and send an ICMP error to its sender
	bypass                // send it in clear, whatever its eroute is
	pass                  // send it in clear
	protect               // send it through the group of its eroute
	hold                  // keep it until its eroute is replaced
	trap                  // ask key daemons for an SA
)

// A decision is an action, its reason and the eroute that it follows from.
type decision struct {
	do    action
	why   drop.Reason   // why the packet is dropped
	route *eroute.Entry // the narrowest eroute that matches; nil: none does
}

// decide returns the decision about packet p with header h and selector s. routes is the
// caller's cache of e.routes.
func (e *Engine) decide(p []byte, h *packet.Header, s *eroute.Packet, routes *eroute.Cache) decision {
	switch {
	case h.Options:
		return decision{why: drop.IPOptions}
	case h.TTL == 0:
		return decision{why: drop.TTL}
	}
	r := routes.Lookup(s)
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

// answerRoute returns the eroute to an SA for the answers to the packet that an ICMP
// error quotes. It returns nil if p is no ICMP error, or no such eroute exists. An error
// that matches no eroute to an SA itself is sent through the SA of these answers (RFC 4301
// section 6.2). Any router on the path may have sent it, and it quotes a packet that is
// protected.
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

// isOwn reports whether a packet of this host is one that key daemons or the stack send
// to peers: ESP, AH or IKE. r is the eroute that matches it. A packet that r tunnels to
// another gateway does not count.
func (e *Engine) isOwn(h *packet.Header, s *eroute.Packet, r *eroute.Entry) bool {
	switch {
	case h.Proto == packet.ProtoESP, h.Proto == packet.ProtoAH: // only root can send them
	case h.Proto == packet.ProtoUDP && e.isIKE(h, s.SrcPort):
	default:
		return false
	}
	return e.host.IsLocal(h.Src) && (r == nil || r.ID.Dst == h.Dst || r.ID.Dst.IsUnspecified())
}

// refusal returns the first SA of a group that must not send a packet now, and why. It
// returns nil if all may send it; then soft reports whether a soft lifetime limit of one
// of them has passed.
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

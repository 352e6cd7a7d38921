// Package trace decides what happens to a packet on a stack that does not decide without
// one: by the objects that the stack lists. It finds eroutes with the table of stack user,
// because all stacks have the same rules for them.
package trace

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Ask returns the decision of a stack about a packet: its own, if it is a [klips.Tracer], else
// that of the [Tables] of t. t needs SAs, eroutes and devices. local reports whether an address
// is one of this host.
func Ask(ctx context.Context, s klips.Stack, t *klips.Snapshot, f klips.Flow, local func(netip.Addr) bool) (*klips.Decision, error) {
	if tracer, ok := s.(klips.Tracer); ok {
		d, err := tracer.Trace(ctx, f)
		if !errors.Is(err, syscall.EOPNOTSUPP) {
			return d, err
		}
	}
	return New(t, ByFlow(s.Info().Name), local).Decide(f), nil
}

// maxNesting is how many groups a packet can go through. Stack user has the same number.
const maxNesting = 4

// Tables are what decisions are made from: the objects in a snapshot.
type Tables struct {
	routes  *eroute.Table
	sas     map[klips.SAID]*klips.SA
	inner   map[klips.SAID]bool // SAs that are not the first of their group
	list    []klips.SA
	devices []klips.Device
	byFlow  bool
	local   func(netip.Addr) bool
}

// ByFlow reports whether the stack of that name chooses among the SAs of an eroute by the flow
// of the packet. Stack xfrm does so by the processor that sends it.
func ByFlow(stack string) bool { return stack != "xfrm" }

// New returns the Tables of a snapshot, which must not change while they are used. It needs
// SAs, eroutes and devices. byFlow is that of the stack, see [ByFlow]: otherwise decisions name
// the first SA of an eroute. local reports whether an address is one of this host.
func New(t *klips.Snapshot, byFlow bool, local func(netip.Addr) bool) *Tables {
	h := &Tables{eroute.New(), make(map[klips.SAID]*klips.SA, len(t.SAs)), map[klips.SAID]bool{}, t.SAs, t.Devices, byFlow, local}
	for _, e := range t.Eroutes {
		_ = h.routes.Add(e) // a listing has no eroute twice
	}
	for i := range t.SAs {
		h.sas[t.SAs[i].ID] = &t.SAs[i]
		for _, id := range t.SAs[i].Next {
			h.inner[id] = true
		}
	}
	return h
}

// Decide returns what happens to a packet. Its addresses are of one family. The decision has
// no MTU. If two eroutes match and neither is narrower, the order in which they were made
// decides; listings do not have it, so Decide may return the other one.
func (h *Tables) Decide(f klips.Flow) *klips.Decision {
	p := eroute.Packet{Src: f.Src, Dst: f.Dst, Proto: f.Proto}
	if f.Proto == packet.ProtoTCP || f.Proto == packet.ProtoUDP {
		p.SrcPort, p.DstPort = f.SrcPort, f.DstPort
	}
	if f.Inbound {
		return h.in(&p)
	}
	if f.Device != "" && !slices.ContainsFunc(h.devices, func(d klips.Device) bool { return d.Name == f.Device && d.Physical != "" }) {
		return &klips.Decision{Reason: drop.Detached.String()}
	}
	return h.out(p)
}

// out decides about an outbound packet.
func (h *Tables) out(p eroute.Packet) *klips.Decision {
	r := h.routes.Lookup(&p)
	switch {
	case h.isOwn(&p, r):
		return &klips.Decision{Fate: klips.FateBypass}
	case r == nil:
		return &klips.Decision{Reason: drop.NoEroute.String()}
	}
	d := &klips.Decision{Legs: []klips.Leg{{Eroute: r.Selector(), Target: r.ID}}}
	if r.ID.IsMagic() {
		fate, why := shunt(r.ID.SPI)
		d.Fate, d.Reason = fate, why.String()
		return d
	}
	d.Fate = klips.FateProtect
	for i := range maxNesting {
		group, why := h.group(h.choose(r, &p))
		for _, sa := range group {
			d.Legs[i].SAs = append(d.Legs[i].SAs, sa.ID)
		}
		for _, sa := range group {
			if why == drop.None {
				if why = refusal(sa); why != drop.None {
					d.SA = sa.ID
				}
			}
		}
		if why != drop.None {
			d.Fate, d.Reason = klips.FateDrop, why.String()
			return d
		}
		p = outer(p, group)
		next := h.routes.Lookup(&p)
		if next == nil || next.ID.Dst.IsUnspecified() || next.ID.Dst == r.ID.Dst {
			return d
		}
		d.Legs = append(d.Legs, klips.Leg{Eroute: next.Selector(), Target: next.ID})
		r = next
	}
	d.Fate, d.Reason = klips.FateDrop, drop.Nesting.String()
	return d
}

// shunt returns what happens to the packets of an eroute to a shunt.
func shunt(spi klips.SPI) (klips.Fate, drop.Reason) {
	switch spi {
	case klips.SPIPass:
		return klips.FatePass, drop.None
	case klips.SPIDrop:
		return klips.FateDrop, drop.ErouteDrop
	case klips.SPIReject:
		return klips.FateReject, drop.ErouteReject
	case klips.SPIHold:
		return klips.FateHold, drop.None
	case klips.SPITrap, klips.SPITrapSubnet:
		return klips.FateTrap, drop.None
	}
	return klips.FateDrop, drop.ErouteUnknown
}

// isOwn reports whether a packet is ESP, AH or IKE that this host sends to a peer. Only a
// peer's gateway may be its destination, as with stack user.
func (h *Tables) isOwn(p *eroute.Packet, r *eroute.Entry) bool {
	switch {
	case p.Proto == packet.ProtoESP, p.Proto == packet.ProtoAH:
	case p.Proto == packet.ProtoUDP && (p.SrcPort == 500 || p.SrcPort == 4500):
	default:
		return false
	}
	return h.local(p.Src) && (r == nil || r.ID.Dst == p.Dst || r.ID.Dst.IsUnspecified())
}

// choose returns the SA that begins the group for a packet. The packets of an eroute with
// further SAs are spread by their flow.
func (h *Tables) choose(r *eroute.Entry, p *eroute.Packet) klips.SAID {
	if also := r.Also(); h.byFlow && len(also) > 0 {
		if i := p.Spread(1 + len(also)); i > 0 {
			if sa := h.sas[also[i-1]]; sa != nil && sa.State != klips.Larval {
				return sa.ID
			}
		}
	}
	return r.ID
}

// group returns the SAs of the group that begins with an SA, in processing order.
func (h *Tables) group(first klips.SAID) (l []*klips.SA, why drop.Reason) {
	sa := h.sas[first]
	if sa == nil {
		return nil, drop.NoSA
	}
	l = append(l, sa)
	for _, id := range sa.Next {
		if next := h.sas[id]; next != nil {
			l = append(l, next)
		}
	}
	return l, drop.None
}

// refusal returns why an SA does not send or admit a packet now.
func refusal(sa *klips.SA) drop.Reason {
	switch {
	case sa.State != klips.Mature && sa.State != klips.Dying:
		return drop.NotUsable
	case isPast(sa.Life):
		return drop.Expired
	case sa.Dir == klips.Outbound && sa.MaxSeq() != 0 && sa.Seq >= sa.MaxSeq():
		return drop.NoNumbers
	}
	return drop.None
}

// isPast reports whether a hard lifetime limit has passed.
func isPast(l klips.Life) bool {
	for _, c := range [...]klips.Counter{l.Allocations, l.Bytes, l.AddTime, l.UseTime, l.Packets} {
		if c.Hard != 0 && c.Count > c.Hard {
			return true
		}
	}
	return false
}

// outer returns the selector of the packet that a group makes.
func outer(p eroute.Packet, group []*klips.SA) eroute.Packet {
	if sa := group[0]; sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != klips.NATTNone && p.Dst.BitLen() == sa.ID.Dst.BitLen() {
		p.Dst = sa.ID.Dst // a NAT has changed it
	}
	for _, sa := range group {
		p.SrcPort, p.DstPort = 0, 0
		switch {
		case sa.ID.Proto != klips.ProtoTun:
			p.Proto = uint8(sa.ID.Proto)
		case p.Dst.Is6():
			p = eroute.Packet{Src: sa.Src, Dst: sa.ID.Dst, Proto: packet.ProtoIPv6}
		default:
			p = eroute.Packet{Src: sa.Src, Dst: sa.ID.Dst, Proto: packet.ProtoIPIP}
		}
	}
	return p
}

// in decides about a packet that came out of the group of an SA.
func (h *Tables) in(p *eroute.Packet) *klips.Decision {
	d := &klips.Decision{Reason: drop.Policy.String()}
	for i := range h.list {
		sa := &h.list[i]
		if !sa.Dir.Receives() || h.inner[sa.ID] && sa.Dir == klips.Inbound {
			continue
		}
		whole, _ := h.group(sa.ID)
		if sa.Dir == klips.Both {
			slices.Reverse(whole)
		}
		if !covers(whole, p) {
			continue
		}
		a := klips.Admission{}
		for _, m := range whole {
			a.SAs = append(a.SAs, m.ID)
			if a.Reason == "" {
				a.Reason = refusal(m).String()
			}
		}
		if a.Reason == "" {
			d.Fate, d.Reason = klips.FateAdmit, ""
		}
		if len(d.Admissions) < klips.MaxAdmissions {
			d.Admissions = append(d.Admissions, a)
		}
	}
	if d.Fate == klips.FateDrop && len(d.Admissions) > 0 {
		d.Reason, d.SA = d.Admissions[0].Reason, d.Admissions[0].SAs[0]
	}
	return d
}

// covers reports whether the peer of a group may send a packet through it, as far as its
// policies and, in transport mode, its addresses show.
func covers(whole []*klips.SA, p *eroute.Packet) bool {
	tunnel := false
	for _, sa := range whole {
		if sa.Policy != nil && !p.Matches(sa.Policy) {
			return false
		}
		tunnel = tunnel || sa.ID.Proto == klips.ProtoTun
	}
	sa := whole[0]
	return tunnel || p.Dst == sa.ID.Dst && (!sa.HasSource() || sa.Src == p.Src)
}

package engine

import (
	"context"
	"encoding/binary"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Trace decides about a packet that does not exist, see [klips.Tracer]. It makes the packet
// and asks the code of decide_out.go and decide_in.go, as the workers do.
func (e *Engine) Trace(_ context.Context, f klips.Flow) (*klips.Decision, error) {
	if !f.Src.IsValid() || !f.Dst.IsValid() || f.Src.Is4() != f.Dst.Is4() || f.Src.Is4In6() || f.Dst.Is4In6() || f.Length > packet.MaxSize {
		return nil, &klips.OpError{Op: "trace", Object: f.Dst.String(), Err: syscall.EINVAL}
	}
	p := imagine(f)
	h, ok := packet.ParseIP(p)
	if !ok { // the protocol is an IPv6 extension header
		return nil, &klips.OpError{Op: "trace", Object: f.Dst.String(), Err: syscall.EINVAL}
	}
	if f.Inbound {
		return e.traceIn(p, h), nil
	}
	var d *device
	if f.Device != "" {
		e.devMu.Lock()
		d = e.deviceLocked(f.Device)
		e.devMu.Unlock()
		if d == nil {
			return nil, deviceError("trace", f.Device, syscall.ENODEV)
		}
	}
	return e.traceOut(p, h, d), nil
}

// imagine makes a packet with the header of f and zeros as its payload.
func imagine(f klips.Flow) []byte {
	h := ipip.Overhead(f.Dst)
	p := make([]byte, max(f.Length, h+8))
	putHeader(p, f.Src, f.Dst, f.Proto, 64)
	if f.DF && f.Dst.Is4() {
		p[6] = 0x40
	}
	switch f.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		binary.BigEndian.PutUint16(p[h:], f.SrcPort)
		binary.BigEndian.PutUint16(p[h+2:], f.DstPort)
	case packet.ProtoICMP: // a request of ping, so it is no error
		p[h] = 8
	case packet.ProtoICMPv6:
		p[h] = 128
	}
	return p
}

// traceOut decides about an outbound packet that is routed into device d; nil: into any.
func (e *Engine) traceOut(p []byte, h packet.Header, d *device) *klips.Decision {
	t := &klips.Decision{}
	refuse := func(why drop.Reason, sa *sadb.SA) *klips.Decision {
		t.Fate, t.Reason = klips.FateDrop, why.String()
		if sa != nil {
			t.SA = sa.ID
		}
		return t
	}
	var att *attachment
	if d != nil {
		if att = d.att.Load(); att == nil {
			return refuse(drop.Detached, nil)
		}
	}
	sel := selector(p, &h)
	dec := e.decide(p, &h, &sel, e.routes.NewCache())
	if r := dec.route; r != nil && dec.do != bypass {
		t.Legs = []klips.Leg{{Eroute: r.Selector(), Target: r.ID}}
	}
	t.Fate = fates[dec.do]
	if dec.do != protect {
		t.Reason = dec.why.String()
		return t
	}
	now := e.now()
	r, sa, last := dec.route, e.choose(dec.route, &h, &sel), (*sadb.SA)(nil)
	for i := range maxNesting {
		if sa == nil {
			return refuse(drop.NoSA, nil)
		}
		last = sa
		group := sa.Chain()
		leg := &t.Legs[i]
		for _, member := range group {
			leg.SAs = append(leg.SAs, member.ID)
		}
		if sa, why, _ := refusal(group, now); why != drop.None {
			return refuse(why, sa)
		}
		if att != nil {
			t.MTU = limitBy(group[len(group)-1], att.wire, now)
			if i == 0 {
				t.Longest = longest(shapeOf(&h), group, t.MTU)
			}
			if _, _, why := e.mtuRule(&h, group, t.MTU); why != drop.None {
				return refuse(why, group[0])
			}
		}
		protected(&h, group)
		sel = selector(nil, &h)
		next := e.routes.Lookup(&sel)
		if next == nil || next.ID.Dst.IsUnspecified() || next.ID.Dst == r.ID.Dst {
			return t
		}
		t.Legs = append(t.Legs, klips.Leg{Eroute: next.Selector(), Target: next.ID})
		r, sa = next, e.choose(next, &h, &sel)
	}
	return refuse(drop.Nesting, last)
}

// fates has the fate for each action.
var fates = [...]klips.Fate{
	discard: klips.FateDrop, reject: klips.FateReject, bypass: klips.FateBypass, pass: klips.FatePass,
	protect: klips.FateProtect, hold: klips.FateHold, trap: klips.FateTrap,
}

// protected changes the header of a packet to that of the packet which a group makes of it.
func protected(h *packet.Header, group []*sadb.SA) {
	front, behind := added(shapeOf(h), group)
	total := h.Total + front + behind
	if readdresses(h, group[0]) {
		h.Dst = group[0].ID.Dst
	}
	for _, sa := range group {
		if sa.ID.Proto != klips.ProtoTun {
			h.Proto = uint8(sa.ID.Proto)
			continue
		}
		version := h.Version
		*h = packet.Header{Version: 4, Len: 20, Src: sa.Src, Dst: sa.ID.Dst, TTL: 64, Proto: packet.ProtoIPIP}
		if sa.ID.Dst.Is6() {
			h.Version, h.Len = 6, 40
		}
		if version == 6 {
			h.Proto = packet.ProtoIPv6
		}
	}
	h.Total = total
}

// traceIn decides about a packet that came out of the group of an SA.
func (e *Engine) traceIn(p []byte, h packet.Header) *klips.Decision {
	t := &klips.Decision{Fate: klips.FateDrop, Reason: drop.Policy.String()}
	now, check := e.now(), e.knobs.checkIn.on()
	for _, sa := range e.sas.All() {
		whole, outermost := sa.Received()
		if !sa.Dir.Receives() || !outermost || !covers(whole, p, &h) {
			continue
		}
		v := e.admit(whole, p, h, check, now)
		a := klips.Admission{Reason: v.why.String()}
		for _, member := range whole {
			a.SAs = append(a.SAs, member.ID)
		}
		if v.do == deliver {
			a.Reason, t.Fate, t.Reason = "", klips.FateAdmit, ""
		}
		if len(t.Admissions) < klips.MaxAdmissions {
			t.Admissions = append(t.Admissions, a)
		}
	}
	if t.Fate == klips.FateDrop && len(t.Admissions) > 0 {
		t.Reason, t.SA = t.Admissions[0].Reason, t.Admissions[0].SAs[0]
	}
	return t
}

// covers reports whether the peer of a group may send a packet through it, as far as its
// policies and, in transport mode, its addresses show.
func covers(whole []*sadb.SA, p []byte, h *packet.Header) bool {
	for _, sa := range whole {
		if !admits(sa, p, h) {
			return false
		}
	}
	if hasTunnel(whole) {
		return true
	}
	return h.Dst == whole[0].ID.Dst && !elsewhere(h, whole[0])
}

// admit returns the last verdict about a packet that came out of a group.
func (e *Engine) admit(whole []*sadb.SA, p []byte, h packet.Header, check bool, now int64) verdict {
	for _, sa := range whole {
		if st := sa.State(); st != klips.Mature && st != klips.Dying {
			return stop(sa, drop.NotUsable, dropped)
		}
		if hard, _, _ := sa.Expired(now); hard {
			return stop(sa, drop.Expired, dropped)
		}
	}
	c := inPacket{b: &packet.Buffer{B: p, End: len(p)}, h: h, whole: whole, begun: true, check: check, last: whole[len(whole)-1]}
	if !hasTunnel(whole) {
		return e.judgeTransported(&c)
	}
	for _, sa := range whole {
		if sa.ID.Proto == klips.ProtoTun {
			if v := e.judgeInner(&c, sa); v.do != deliver {
				return v
			}
		}
	}
	return verdict{do: deliver}
}

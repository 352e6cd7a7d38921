package engine

import (
	"errors"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// This file decides about inbound packets, layer by layer; in.go carries the decisions
// out. The code here reads the packet and the tables. It changes nothing and counts
// nothing.

// An inPacket is an inbound packet, and how much of its group has been removed from it.
type inPacket struct {
	b     *packet.Buffer
	h     packet.Header // of the outermost layer that is left
	chain []*sadb.SA    // SAs whose headers must still follow, outermost first
	whole []*sadb.SA    // the whole group, of which chain is the rest
	begun bool          // the first SA was found, and chain is valid
	check bool          // inbound_policy_check
	last  *sadb.SA      // the SA whose layer was removed last; nil: none yet
	natt  klips.NATTType
	// Ports of the UDP header that was removed.
	port, toPort uint16
	transported  bool // the innermost SA of its group is in transport mode
}

// A step is what to do with the outermost layer.
type step uint8

const (
	refuse  step = iota // the packet is not accepted
	again               // the layer is removed, and the next one follows
	unseal              // remove an ESP, AH or IPComp header
	unwrap              // remove a tunnel header
	finish              // the whole group is removed: check the inner packet
	deliver             // write the packet to the device
)

// A column is the counter in which KLIPS counts a packet that is not accepted.
type column uint8

const (
	dropped  column = iota // rx_dropped
	failed                 // rx_errors
	vanished               // rx_packets only
	ignored                // none, not even rx_packets: the packet may be for other programs
)

// A verdict is the decision about the outermost layer.
type verdict struct {
	do step
	// For refuse: the reason, and the counter of KLIPS.
	why drop.Reason
	as  column
	// The SA of the header, or the SA because of which the packet is refused; nil: none.
	sa *sadb.SA
}

// A layer is the data about the outermost layer on which a verdict depends.
type layer struct {
	skipped     []*sadb.SA // comp SAs before sa whose headers the packet does not have
	rest, whole []*sadb.SA // values of chain and whole after the layer is removed
	// Of an ESP, AH or IPComp header:
	seq      uint32 // the low half of a 64-bit number
	soft     bool   // a soft lifetime limit of the SA has passed
	inUDP    bool   // the UDP header was for this SA
	moved    bool   // its UDP source differs from the SA's
	unwanted bool   // it has moved, and must not: check its ICV, then drop it
}

// stop returns the verdict that refuses a packet because of an SA; nil: of none.
func stop(sa *sadb.SA, why drop.Reason, as column) verdict {
	return verdict{refuse, why, as, sa}
}

// bad returns the verdict about a layer that cannot be parsed. The counters are those of
// KLIPS. An ESP packet that is shorter than its ICV counts as dropped. One with a pad
// length that is too large counts in rx_packets only. All others count as errors.
func bad(sa *sadb.SA, err error) verdict {
	switch {
	case errors.Is(err, esp.ErrRunt):
		return stop(sa, drop.BadPacket, dropped)
	case errors.Is(err, esp.ErrPadding):
		return stop(sa, drop.BadPadding, vanished)
	}
	return stop(sa, drop.BadPacket, failed)
}

// judge returns the verdict about the outermost layer of a packet at the time now, and
// stores in l what it finds out.
func (e *Engine) judge(c *inPacket, l *layer, now int64) verdict {
	switch c.h.Proto {
	case packet.ProtoESP, packet.ProtoAH, packet.ProtoComp:
		return e.judgeSecured(c, l, now)
	}
	return judgeRevealed(c, l)
}

// minAHLength is the length field of the shortest AH header, with an ICV of 12
// bytes (RFC 4302 section 2.2).
const minAHLength = 4

// identify reads the SA and the sequence number of an ESP, AH or IPComp header.
func (c *inPacket) identify() (id klips.SAID, seq uint32, err error) {
	id = klips.SAID{Dst: c.h.Dst, Proto: klips.Proto(c.h.Proto)}
	var spi uint32
	switch id.Proto {
	case klips.ProtoESP:
		spi, seq, err = esp.ParseHeader(c.b, &c.h)
	case klips.ProtoAH:
		spi, seq, err = ah.ParseHeader(c.b, &c.h)
		if err == nil && c.b.Bytes()[c.h.Len+1] < minAHLength {
			err = ah.ErrLength
		}
	default:
		var cpi uint16
		_, cpi, err = ipcomp.ParseHeader(c.b, &c.h)
		spi = uint32(cpi)
	}
	id.SPI = klips.SPI(spi)
	return id, seq, err
}

// judgeSecured decides about an ESP, AH or IPComp header.
func (e *Engine) judgeSecured(c *inPacket, l *layer, now int64) verdict {
	if c.h.Proto == packet.ProtoComp && !c.begun {
		return stop(nil, drop.WrongOrder, dropped) // never outermost
	}
	id, seq, err := c.identify()
	if err != nil {
		return bad(c.last, err)
	}
	v := e.find(c, l, id)
	if v.do == refuse {
		return v
	}
	sa := v.sa
	if st := sa.State(); st != klips.Mature && st != klips.Dying {
		return stop(sa, drop.NotUsable, dropped)
	}
	l.inUDP = c.inUDP(sa)
	moved := elsewhere(&c.h, sa)
	l.moved = l.inUDP && (moved || c.otherPort(sa))
	l.unwanted = c.check && moved
	if l.unwanted && !l.moved {
		return stop(sa, drop.WrongSource, dropped)
	}
	if c.check && !c.begun && sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != c.natt {
		return stop(sa, drop.WrongUDP, dropped)
	}
	hard, soft, _ := sa.Expired(now)
	if hard {
		return stop(sa, drop.Expired, dropped)
	}
	l.seq, l.soft = seq, soft
	return v
}

// find finds the SA of the layer in front, which must be the next of the group.
func (e *Engine) find(c *inPacket, l *layer, id klips.SAID) verdict {
	if c.begun && c.check {
		n := c.absent()
		if rest := c.chain[n:]; len(rest) > 0 && rest[0].ID == id {
			l.skipped, l.rest, l.whole = c.chain[:n], rest[1:], c.whole
			return verdict{do: unseal, sa: rest[0]}
		}
	} else if sa := e.sas.Lookup(id); sa != nil {
		// If it is not the first of its group, a layer of that is missing around it.
		if whole, first := sa.Received(); first || !c.check {
			l.rest, l.whole = whole[1:], whole
			return verdict{do: unseal, sa: sa}
		}
	}
	why, as := drop.WrongOrder, dropped
	if e.sas.Lookup(id) == nil {
		why = drop.NoSA
	}
	if c.natt != klips.NATTNone && !c.begun {
		as = ignored
		if c.toPort == ikePort {
			why = drop.NotESP // IKE looks the same there
		}
	}
	return stop(c.last, why, as)
}

// absent counts the comp SAs that come next and whose headers are not there: the packet
// was sent uncompressed (RFC 3173 section 2.2).
func (c *inPacket) absent() (n int) {
	for n < len(c.chain) && c.chain[n].ID.Proto == klips.ProtoComp && c.h.Proto != packet.ProtoComp {
		n++
	}
	return n
}

// judgeFollower decides about the packet that was inside the header of an SA. h is its
// header, and chain has the SAs whose headers must follow. A dummy packet (RFC 4303
// section 2.6) is refused in every group.
func judgeFollower(c *inPacket, sa *sadb.SA, h *packet.Header) verdict {
	if h.Proto == packet.ProtoNoNext {
		return stop(sa, drop.Dummy, vanished)
	}
	if c.check && len(c.chain) > 0 && !mayFollow(h.Proto, c.chain) {
		why := drop.WrongOrder
		if hasTunnel(c.chain) {
			why = drop.NoTunnel
		}
		return stop(sa, why, dropped) // the group is not complete
	}
	return verdict{do: again}
}

// mayFollow reports whether a header of protocol p can belong to the next SA of the
// group. A comp SA has no header in packets that were sent uncompressed.
func mayFollow(p uint8, chain []*sadb.SA) bool {
	switch p {
	case packet.ProtoESP, packet.ProtoAH, packet.ProtoComp, packet.ProtoIPIP, packet.ProtoIPv6:
		return true
	}
	return !slices.ContainsFunc(chain, func(sa *sadb.SA) bool { return sa.ID.Proto != klips.ProtoComp })
}

// judgeRevealed decides about the packet inside the last ESP, AH or IPComp header. It is
// the tunnel header of the group's tun SA, or the inner packet itself.
func judgeRevealed(c *inPacket, l *layer) verdict {
	if !c.begun {
		return stop(nil, drop.WrongOrder, dropped)
	}
	n := c.absent()
	if n == len(c.chain) {
		l.skipped = c.chain
		return verdict{do: finish}
	}
	sa := c.chain[n]
	switch {
	case sa.ID.Proto != klips.ProtoTun && c.check:
		return stop(c.last, drop.WrongOrder, dropped) // a layer is missing
	case sa.ID.Proto != klips.ProtoTun:
		return verdict{do: deliver}
	case c.h.Proto != packet.ProtoIPIP && c.h.Proto != packet.ProtoIPv6:
		return stop(sa, drop.NoTunnel, dropped)
	case c.check && (c.h.Dst != sa.ID.Dst || elsewhere(&c.h, sa)):
		return stop(sa, drop.NoTunnel, dropped)
	}
	l.skipped, l.rest, l.whole = c.chain[:n], c.chain[n+1:], c.whole
	return verdict{do: unwrap, sa: sa}
}

// judgeInner decides about the packet inside the tunnel of a tun SA.
func (e *Engine) judgeInner(c *inPacket, sa *sadb.SA) verdict {
	if c.check && e.lacksPolicy(sa) {
		return stop(sa, drop.NoPolicy, dropped)
	}
	if c.check && !admits(sa, c.b.Bytes(), &c.h) {
		return stop(sa, drop.Policy, dropped)
	}
	if len(c.chain) == 0 {
		return c.admitted()
	}
	// Two groups are nested: the tunnel carries the packets of another group.
	return verdict{do: again}
}

// judgeTransported decides about an inner packet whose group has its innermost SA in
// transport mode.
func (e *Engine) judgeTransported(c *inPacket) verdict {
	sa := c.whole[len(c.whole)-1]
	if sa.Dir == klips.Both {
		sa = c.whole[0] // the innermost SA, first in the order of sending, has the policy
	}
	if c.check && e.lacksPolicy(sa) {
		return stop(sa, drop.NoPolicy, dropped)
	}
	return c.admitted()
}

// admitted decides about a packet after the headers of its whole group were removed.
// Every SA in transport mode must admit it, also an SA that was grouped with others after
// its policy was set. The policies of tun SAs have been checked when their tunnels were
// removed.
func (c *inPacket) admitted() verdict {
	if c.check {
		for _, sa := range c.whole {
			if sa.ID.Proto != klips.ProtoTun && !admits(sa, c.b.Bytes(), &c.h) {
				return stop(sa, drop.Policy, dropped)
			}
		}
	}
	return verdict{do: deliver}
}

// lacksPolicy reports whether an SA that needs an inbound policy has none.
func (e *Engine) lacksPolicy(sa *sadb.SA) bool {
	return sa.Policy() == nil && e.knobs.needPolicy.on()
}

// notNew returns the reason why the window of an SA does not accept a number.
func notNew(sa *sadb.SA, seq uint64) drop.Reason {
	switch {
	case sa.Remembered != 0 && seq <= sa.Remembered:
		return drop.BelowMark
	case sa.Replay.TooOld(seq):
		return drop.TooOld
	}
	return drop.Replayed
}

// elsewhere reports whether the source of a packet differs from the source of an SA. An SA
// without a source accepts all.
func elsewhere(h *packet.Header, sa *sadb.SA) bool {
	return sa.Src.IsValid() && !sa.Src.IsUnspecified() && sa.Src != h.Src
}

// otherPort reports whether the UDP source port of the packet differs from the port of
// the SA's peer. An SA without that port accepts all.
func (c *inPacket) otherPort(sa *sadb.SA) bool {
	return sa.NATT.SPort != 0 && sa.NATT.SPort != c.port
}

// inUDP reports whether the UDP header of the packet encapsulates the header of this SA.
// That is so for an ESP SA only.
func (c *inPacket) inUDP(sa *sadb.SA) bool {
	return !c.begun && c.natt != klips.NATTNone && sa.ID.Proto == klips.ProtoESP && sa.NATT.Type == c.natt
}

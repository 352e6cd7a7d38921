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

// What becomes of an inbound packet is decided here, layer by layer, and done in in.go.
// What is here looks at the packet and at the tables, and changes and counts nothing.

// An inPacket is a packet on its way in, and how much of its group has been taken off.
type inPacket struct {
	b     *packet.Buffer
	h     packet.Header // of the layer in front
	chain []*sadb.SA    // SAs that are still to come, outermost first
	whole []*sadb.SA    // of which chain is the rest
	begun bool          // the first SA was found; chain counts
	check bool          // inbound_policy_check
	last  *sadb.SA      // the SA of the layer that was taken off last; nil: of none
	natt  klips.NATTType
	// Ports of the UDP header that was taken off.
	port, toPort uint16
	transported  bool // it came out of a group whose innermost SA is in transport mode
}

// A step is what is done with the layer in front.
type step uint8

const (
	refuse  step = iota // the packet goes no further
	again               // the layer is off, and the next one is to be looked at
	unseal              // an ESP, AH or IPComp header is taken off
	unwrap              // a tunnel header is taken off
	finish              // the whole group is off: what it carried is looked at
	deliver             // the packet is given to the device
)

// A column is where KLIPS counts a packet that goes no further.
type column uint8

const (
	dropped  column = iota // rx_dropped
	failed                 // rx_errors
	vanished               // rx_packets alone
	ignored                // nowhere, not even in rx_packets: it may be for others
)

// A verdict is what is done with the layer in front.
type verdict struct {
	do step
	// Of a packet that goes no further: why, and where that is counted.
	why drop.Reason
	as  column
	// The SA whose header it is, or for whose sake the packet goes no further; nil: none.
	sa *sadb.SA
}

// A layer is what is found out about the layer in front for the sake of a verdict.
type layer struct {
	skipped     []*sadb.SA // comp SAs in front of it whose headers the packet is without
	rest, whole []*sadb.SA // chain and whole of the packet when it is off
	// Of an ESP, AH or IPComp header:
	seq      uint32 // the low half, where there are 64 bits
	soft     bool   // a soft lifetime limit of the SA has passed
	inUDP    bool   // the UDP header was for this SA
	moved    bool   // it comes from elsewhere in UDP
	unwanted bool   // for that it is dropped, once it has been authenticated
}

// stop is the verdict about a packet that goes no further for the sake of an SA; nil:
// of none.
func stop(sa *sadb.SA, why drop.Reason, as column) verdict {
	return verdict{refuse, why, as, sa}
}

// bad is the verdict about a packet with a layer that cannot be read. The stack counts
// what KLIPS counts: an ESP packet that is too short for its ICV is dropped, one whose
// pad length says more than there is vanishes, all else is an error.
func bad(sa *sadb.SA, err error) verdict {
	switch {
	case errors.Is(err, esp.ErrRunt):
		return stop(sa, drop.BadPacket, dropped)
	case errors.Is(err, esp.ErrPadding):
		return stop(sa, drop.BadPadding, vanished)
	}
	return stop(sa, drop.BadPacket, failed)
}

// judge is what is done at a time with the layer in front of a packet; l becomes what is
// found out about it.
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
	elsewhere := c.elsewhere(sa)
	l.moved = l.inUDP && (elsewhere || c.otherPort(sa))
	l.unwanted = c.check && elsewhere
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

// judgeFollower decides about the packet of header h that the header of an SA has
// hidden, when chain is to be taken off yet. No group takes a dummy packet further.
func judgeFollower(c *inPacket, sa *sadb.SA, h *packet.Header) verdict {
	if h.Proto == packet.ProtoNoNext {
		return stop(sa, drop.Dummy, vanished)
	}
	if c.check && len(c.chain) > 0 && !mayFollow(h.Proto, c.chain) {
		why := drop.WrongOrder
		if hasTunnel(c.chain) {
			why = drop.NoTunnel
		}
		return stop(sa, why, dropped) // incomplete policy
	}
	return verdict{do: again}
}

// mayFollow reports whether a header of protocol p can be what the rest of the
// group takes off. Comp SAs at the end may have nothing to do.
func mayFollow(p uint8, chain []*sadb.SA) bool {
	switch p {
	case packet.ProtoESP, packet.ProtoAH, packet.ProtoComp, packet.ProtoIPIP, packet.ProtoIPv6:
		return true
	}
	return !slices.ContainsFunc(chain, func(sa *sadb.SA) bool { return sa.ID.Proto != klips.ProtoComp })
}

// judgeRevealed decides about what is behind the last ESP, AH or IPComp header: the
// tunnel header that the group's tun SA demands, or the packet itself.
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
	case c.check && (c.h.Dst != sa.ID.Dst || c.elsewhere(sa)):
		return stop(sa, drop.NoTunnel, dropped)
	}
	l.skipped, l.rest, l.whole = c.chain[:n], c.chain[n+1:], c.whole
	return verdict{do: unwrap, sa: sa}
}

// judgeInner decides about the packet that a tun SA has carried.
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
	// Two bundles joined: the tunnel carries the packets of another one.
	return verdict{do: again}
}

// judgeTransported decides about a packet that has come out of a group whose innermost
// SA is in transport mode.
func (e *Engine) judgeTransported(c *inPacket) verdict {
	sa := c.whole[len(c.whole)-1]
	if sa.Dir == klips.Both {
		sa = c.whole[0] // the last of the group, which is in the order of sending, has the policy
	}
	if c.check && e.lacksPolicy(sa) {
		return stop(sa, drop.NoPolicy, dropped)
	}
	return c.admitted()
}

// admitted decides about a packet from which the whole group has been taken off. All
// SAs in transport mode must admit it, also those that were grouped with others
// after their policy was set; tun SAs have been asked about what they carried.
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

// notNew is why the window of an SA does not take a number.
func notNew(sa *sadb.SA, seq uint64) drop.Reason {
	switch {
	case sa.Remembered != 0 && seq <= sa.Remembered:
		return drop.BelowMark
	case sa.Replay.TooOld(seq):
		return drop.TooOld
	}
	return drop.Replayed
}

// elsewhere reports whether the source of the packet is not that of an SA. An SA that
// knows none takes all.
func (c *inPacket) elsewhere(sa *sadb.SA) bool {
	return sa.Src.IsValid() && !sa.Src.IsUnspecified() && sa.Src != c.h.Src
}

// otherPort reports whether the UDP header had another source port than the SA's peer
// sends from. An SA that knows none takes all.
func (c *inPacket) otherPort(sa *sadb.SA) bool {
	return sa.NATT.SPort != 0 && sa.NATT.SPort != c.port
}

// inUDP reports whether an SA, whose header is in front, is the ESP SA that the packet's
// UDP encapsulation is for.
func (c *inPacket) inUDP(sa *sadb.SA) bool {
	return !c.begun && c.natt != klips.NATTNone && sa.ID.Proto == klips.ProtoESP && sa.NATT.Type == c.natt
}

package klips

import (
	"net/netip"
	"slices"
	"strconv"
	"syscall"
)

// A Selector selects packets, for an eroute or an inbound policy. Both prefixes are of
// one family and have no host bits set. Zero means any for the protocol and the ports.
// Ports are of TCP or UDP; without a protocol, of both (on stack xfrm also of the other
// protocols whose ports the kernel knows).
type Selector struct {
	Src     netip.Prefix `json:"src"`
	Dst     netip.Prefix `json:"dst"`
	Proto   uint8        `json:"proto,omitempty"`
	SrcPort uint16       `json:"sport,omitempty"`
	DstPort uint16       `json:"dport,omitempty"`
}

// OfBoth reports whether the selector is for both TCP and UDP: it has a port and no protocol.
func (s Selector) OfBoth() bool { return s.Proto == 0 && (s.SrcPort != 0 || s.DstPort != 0) }

// Is6 reports whether the selector is for IPv6.
func (s Selector) Is6() bool { return s.Src.Addr().Is6() }

// Reverse returns the selector of the answers.
func (s Selector) Reverse() Selector {
	return Selector{Src: s.Dst, Dst: s.Src, Proto: s.Proto, SrcPort: s.DstPort, DstPort: s.SrcPort}
}

// Within reports whether all packets of s are packets of o.
func (s Selector) Within(o Selector) bool {
	inside := func(a, b netip.Prefix) bool { return b.Bits() <= a.Bits() && b.Contains(a.Addr()) }
	return inside(s.Src, o.Src) && inside(s.Dst, o.Dst) &&
		(o.Proto == 0 || o.Proto == s.Proto) && (o.SrcPort == 0 || o.SrcPort == s.SrcPort) && (o.DstPort == 0 || o.DstPort == s.DstPort)
}

// Overlaps reports whether a packet can match both selectors.
func (s Selector) Overlaps(o Selector) bool {
	portless := func(proto uint8) bool {
		return proto != 0 && proto != syscall.IPPROTO_TCP && proto != syscall.IPPROTO_UDP
	}
	if s.OfBoth() && portless(o.Proto) || o.OfBoth() && portless(s.Proto) {
		return false
	}
	return s.Src.Overlaps(o.Src) && s.Dst.Overlaps(o.Dst) &&
		match(s.Proto, o.Proto) && match(s.SrcPort, o.SrcPort) && match(s.DstPort, o.DstPort)
}

// match reports whether two numbers can match the same packet; zero means any.
func match[N uint8 | uint16](x, y N) bool { return x == 0 || y == 0 || x == y }

// String returns the selector for messages: "10.1.0.0/16 -> 10.2.0.0/16:80 proto 6".
// Listings have their own form.
func (s Selector) String() string {
	end := func(p netip.Prefix, port uint16) string {
		if port == 0 {
			return p.String()
		}
		if p.Addr().Is6() {
			return "[" + p.String() + "]:" + strconv.Itoa(int(port))
		}
		return p.String() + ":" + strconv.Itoa(int(port))
	}
	t := end(s.Src, s.SrcPort) + " -> " + end(s.Dst, s.DstPort)
	switch {
	case s.Proto != 0:
		t += " proto " + strconv.Itoa(int(s.Proto))
	case s.OfBoth():
		t += " proto 6,17"
	}
	return t
}

// MaxAlso is how many further SAs an eroute can have.
const MaxAlso = 15

// An Eroute is an extended route. Packets that match its selector go to the SA, and the
// rest of its group, or to a shunt.
type Eroute struct {
	Selector
	ID SAID `json:"said"`
	// Also are further SAs, each the first of its group; at most MaxAlso. The packets are
	// spread over ID and these by their flow: all packets of a flow go to the same SA. Stack
	// xfrm spreads them by the processor that sends them. If that is one of Also and does not
	// exist, ID takes them. All SAs are different and have
	// one destination, and none is a shunt. A stack copies the list; that of a listing must
	// not be changed. Only with [CapAlso] (FaultAlso).
	Also    []SAID `json:"also,omitempty"`
	Packets uint64 `json:"packets"` // packets that selected it
	PID     int32  `json:"pid,omitempty"`
	// AddAgain has the meaning of [SA].AddAgain.
	AddAgain bool `json:"add_again,omitempty"`
	// IdentSrc and IdentDst are the identities of the ends; nil if unknown. A stack
	// keeps them for its requests to key daemons; listings do not have them.
	IdentSrc *Ident `json:"-"`
	IdentDst *Ident `json:"-"`
}

// SAIDs returns ID and then Also.
func (e *Eroute) SAIDs() []SAID { return append([]SAID{e.ID}, e.Also...) }

// SameTarget reports whether two eroutes send packets to the same SAs in the same order, or
// to the same shunt.
func (e *Eroute) SameTarget(o *Eroute) bool {
	return e.ID == o.ID && slices.Equal(e.Also, o.Also)
}

// AlsoFault returns what is wrong with the further SAs, and with which of them:
// FaultAlsoMany (the first one above MaxAlso), FaultAlsoShunt (ID is returned if that is the
// shunt), FaultAlsoPeer, FaultAlsoTwice, or FaultNone.
func (e *Eroute) AlsoFault() (SAID, Fault) {
	switch {
	case len(e.Also) == 0:
		return SAID{}, FaultNone
	case len(e.Also) > MaxAlso:
		return e.Also[MaxAlso], FaultAlsoMany
	case e.ID.IsMagic():
		return e.ID, FaultAlsoShunt
	}
	for i, id := range e.Also {
		switch {
		case id.IsMagic():
			return id, FaultAlsoShunt
		case id.Dst != e.ID.Dst:
			return id, FaultAlsoPeer
		case id == e.ID || slices.Contains(e.Also[:i], id):
			return id, FaultAlsoTwice
		}
	}
	return SAID{}, FaultNone
}

// CheckAlso returns the error of a stack for further SAs that it does not accept, nil if
// it accepts them: an *[OpError] for an operation, with EINVAL and one of the faults of
// [Eroute.AlsoFault], or with EOPNOTSUPP and FaultAlso if the stack cannot have any.
func (e *Eroute) CheckAlso(op string, can bool) error {
	if len(e.Also) == 0 {
		return nil
	}
	if id, f := e.AlsoFault(); f != FaultNone {
		return &OpError{Op: op, Object: id.String(), Err: syscall.EINVAL, Fault: f}
	}
	if !can {
		return &OpError{Op: op, Object: e.Selector.String(), Err: syscall.EOPNOTSUPP, Fault: FaultAlso}
	}
	return nil
}

// An Ident is an identity of a key daemon (RFC 2367 section 2.3.5).
type Ident struct {
	Type uint16 // 0 none, 1 prefix, 2 FQDN, 3 user@FQDN, 4 KLIPS connection
	ID   uint64
	Text string
}

// An ErouteOp is what to do with an eroute.
type ErouteOp uint8

// The operations.
const (
	ErouteAdd       ErouteOp = iota // refused with EEXIST if the selector exists
	ErouteReplace                   // replaces the eroute with that selector, or adds one (stack klips: EFAULT if there is none)
	ErouteAddIn                     // sets the inbound policy of an SA of the group
	ErouteReplaceIn                 // the same: an SA has one policy
)

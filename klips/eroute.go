package klips

import (
	"net/netip"
	"slices"
	"strconv"
	"syscall"
)

// A Selector selects packets, for an eroute or an inbound policy. Both prefixes are of
// one family and have no host bits set. Zero means any for the protocol and the ports;
// ports need the protocol TCP or UDP.
type Selector struct {
	Src     netip.Prefix `json:"src"`
	Dst     netip.Prefix `json:"dst"`
	Proto   uint8        `json:"proto,omitempty"`
	SrcPort uint16       `json:"sport,omitempty"`
	DstPort uint16       `json:"dport,omitempty"`
}

// Is6 reports whether the selector is for IPv6.
func (s Selector) Is6() bool { return s.Src.Addr().Is6() }

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
	if s.Proto != 0 {
		t += " proto " + strconv.Itoa(int(s.Proto))
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
	// spread over ID and these by their flow: all packets of a flow go to the same SA. If
	// that is one of Also and does not exist, ID takes them. All SAs are different and have
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

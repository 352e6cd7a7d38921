package klips

import (
	"net/netip"
	"strconv"
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

// An Eroute is an extended route. Packets that match its selector go to the SA, and the
// rest of its group, or to a shunt.
type Eroute struct {
	Selector
	ID      SAID   `json:"said"`
	Packets uint64 `json:"packets"` // packets that selected it
	PID     int32  `json:"pid,omitempty"`
	// AddAgain has the meaning of [SA].AddAgain.
	AddAgain bool `json:"add_again,omitempty"`
	// IdentSrc and IdentDst are the identities of the ends; nil if unknown. A stack
	// keeps them for its requests to key daemons; listings do not have them.
	IdentSrc *Ident `json:"-"`
	IdentDst *Ident `json:"-"`
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

package klips

import (
	"context"
	"net/netip"
	"strconv"
)

// A Flow is a packet that a [Tracer] is asked about.
type Flow struct {
	// Inbound: the packet came out of the group of an SA. Otherwise it is routed into Device.
	Inbound bool   `json:"inbound,omitempty"`
	Device  string `json:"device,omitempty"` // a virtual device; empty: without the rules for its MTU

	Src     netip.Addr `json:"src"` // of one family
	Dst     netip.Addr `json:"dst"`
	Proto   uint8      `json:"proto"`
	SrcPort uint16     `json:"sport,omitempty"` // of TCP and UDP
	DstPort uint16     `json:"dport,omitempty"`
	Length  int        `json:"length,omitempty"` // bytes, with the IP header; less than the headers: these alone
	DF      bool       `json:"df,omitempty"`     // it must not be fragmented; over IPv6 always so
}

// A Fate is what happens to a packet.
type Fate uint8

// The fates of outbound packets, and of inbound ones: FateDrop or FateAdmit.
const (
	FateDrop    Fate = iota // it is dropped
	FateReject              // it is dropped, and its sender gets an ICMP error
	FateProtect             // it is sent through a group
	FatePass                // it is sent in clear, because of an eroute to %pass
	FateBypass              // it is sent in clear: it is ESP, AH or IKE of this host
	FateHold                // it is kept until its eroute is replaced
	FateTrap                // key daemons are asked for an SA
	FateAdmit               // an SA admits it
)

// String returns the fate as a word, as in "protect".
func (f Fate) String() string {
	words := [...]string{"drop", "reject", "protect", "pass", "bypass", "hold", "trap", "admit"}
	if int(f) < len(words) {
		return words[f]
	}
	return "fate-" + strconv.Itoa(int(f))
}

// A Decision is what a stack does with a packet.
type Decision struct {
	Fate   Fate   `json:"fate"`
	Reason string `json:"reason,omitempty"` // why it is dropped: a word of package drop
	SA     SAID   `json:"said,omitzero"`    // the SA because of which it is dropped; zero: of none
	// Legs are the eroutes that the packet meets, one after the other: after it is
	// protected by one group, it may match the eroute of another. A shunt is the last one.
	Legs []Leg `json:"legs,omitempty"`
	// MTU is the length in bytes of the longest protected packet that may leave, and
	// Longest that of the longest such packet that fits into it; 0: not known.
	MTU     int `json:"mtu,omitempty"`
	Longest int `json:"longest,omitempty"`
	// Admissions are the decisions of inbound SAs whose policy covers the packet.
	Admissions []Admission `json:"admissions,omitempty"`
}

// A Leg is an eroute that a packet matches, and the SAs that it goes through, in processing
// order. A shunt has no SAs.
type Leg struct {
	Eroute Selector `json:"eroute"`
	Target SAID     `json:"target"`
	SAs    []SAID   `json:"sas,omitempty"`
}

// An Admission is the decision about an inbound packet that came out of a group.
type Admission struct {
	SAs    []SAID `json:"sas"`              // outermost first
	Reason string `json:"reason,omitempty"` // why the packet is dropped; empty: it is admitted
}

// MaxAdmissions is the largest number of a [Decision].
const MaxAdmissions = 16

// A Tracer is a Stack that decides about a packet without one, by the code that decides
// about packets on their way. Nothing is changed or counted. For other stacks package trace
// decides by what they list.
type Tracer interface {
	// Trace returns the decision about a packet. EINVAL: its addresses are not of one
	// family. ENODEV: there is no such device.
	Trace(ctx context.Context, f Flow) (*Decision, error)
}

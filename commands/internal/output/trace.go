package output

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// What happens to a packet.
type Trace struct {
	// The verdict: protected, admitted (an SA admits what came out of a tunnel), clear,
	// dropped, rejected (dropped, and its sender is informed) or held.
	Verdict string `json:"verdict"`
	// The reason as a word: one of ipsec_look(8), or past-device, guarded, no-route,
	// no-route-to-peer, forwarding-off, rp-filter, foreign-policy, own-address.
	Reason string `json:"reason,omitempty"`
	// The cause in words.
	Cause string `json:"cause"`
	// What to do, as commands or sentences.
	Next []string `json:"next,omitempty"`
	// The source address of the packet.
	Source netip.Addr `json:"source"`
	// Its destination address.
	Destination netip.Addr `json:"destination"`
	// The number of its protocol.
	TransportProtocol uint8 `json:"transport_protocol"`
	// Its source port.
	SourcePort uint16 `json:"source_port,omitempty"`
	// Its destination port.
	DestinationPort uint16 `json:"destination_port,omitempty"`
	// Its length with the IP header.
	LengthBytes int `json:"length_bytes"`
	// Whether it comes out of a tunnel.
	Inbound bool `json:"inbound"`
	// Whether it comes from another host and leaves this one.
	Forwarded bool `json:"forwarded"`
	// The device by which it arrives.
	ArrivesBy string `json:"arrives_by,omitempty"`
	// The device that its route leads to.
	RouteDevice string `json:"route_device,omitempty"`
	// The router of its route.
	RouteGateway netip.Addr `json:"route_gateway,omitzero"`
	// The eroutes that it meets, one after the other.
	Eroutes []TraceLeg `json:"eroutes,omitempty"`
	// The groups whose policies cover it.
	Admissions []Admission `json:"admissions,omitempty"`
	// The length of the longest protected packet that the way to the peer carries.
	WayMTUBytes int `json:"way_mtu_bytes,omitempty"`
	// The length of the longest such packet that fits into it.
	LongestBytes int `json:"longest_bytes,omitempty"`
	// The address that the protected packet goes to.
	Peer netip.Addr `json:"peer,omitzero"`
}

// An eroute that a packet matches, and the security associations that it goes through.
type TraceLeg struct {
	Flow
	// The SAID of the eroute, or a word such as %drop.
	SAID string `json:"said"`
	// The SAIDs of the group, in the order of processing.
	SAs []string `json:"sas"`
}

// NewTraceLeg returns a leg as a record.
func NewTraceLeg(l klips.Leg) TraceLeg {
	return TraceLeg{newFlow(l.Eroute), l.Target.String(), texts(l.SAs)}
}

// What the security associations of a group do with a packet that comes out of it.
type Admission struct {
	// Their SAIDs, the outermost first.
	SAs []string `json:"sas"`
	// The reason why the packet is dropped. Left out if it is admitted.
	Reason string `json:"reason,omitempty"`
}

// NewAdmission returns an admission as a record.
func NewAdmission(a klips.Admission) Admission { return Admission{texts(a.SAs), a.Reason} }

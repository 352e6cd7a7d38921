// Package drop has the reasons why packets are dropped, and counts the packets. All
// stacks, their listings and the debug log use its words.
package drop

import "strconv"

// A Reason is why a packet is dropped.
type Reason uint8

// The reasons. [Reason.Meaning] has what each means.
const (
	None Reason = iota // the packet is not dropped

	// For packets in both directions.

	BadPacket
	NoSA
	NotUsable
	Expired
	Failed
	Nesting
	Detached

	// For outbound packets.

	NotRead
	IPOptions
	TTL
	Fragments
	NoEroute
	ErouteDrop
	ErouteReject
	ErouteTrap
	ErouteHold
	ErouteUnknown
	HoldFull
	HoldExpired
	HoldEnded
	NoNumbers
	NotReserved
	TooBig
	NotSent

	// For inbound packets.

	NotESP
	WrongOrder
	WrongSource
	WrongUDP
	Replayed
	TooOld
	BelowMark
	BadICV
	BadPadding
	Dummy
	NoTunnel
	Congestion
	NoPolicy
	Policy
	NotDelivered

	numReasons
)

// Number is the number of reasons, with [None]. It is not the same in all versions.
const Number = int(numReasons)

// A row describes a reason.
type row struct{ word, meaning, rfc string }

var rows = [numReasons]row{
	BadPacket: {"bad-packet", "it is no valid IP packet, or a header in it is not valid", "RFC 1812 section 5.2.2"},
	NoSA:      {"no-sa", "there is no SA of its SPI, or none of the SAID that its eroute names", "RFC 4303 section 3.4.2"},
	NotUsable: {"not-usable", "its SA is not complete yet, or is being removed", "RFC 2367 section 2.3.1"},
	Expired:   {"expired", "a hard lifetime limit of its SA has passed", "RFC 4301 section 4.4.2.1"},
	Failed:    {"failed", "it could not be transformed", ""},
	Nesting:   {"nesting", "it has too many layers, or eroutes lead it round in a circle", ""},
	Detached:  {"detached", "the virtual device is attached to no physical one, or none is attached to the one that it came by", ""},

	NotRead:       {"not-read", "the virtual device could not hand it over, as when it would be cut into too many segments", ""},
	IPOptions:     {"ip-options", "it has IPv4 options, which are not carried", "RFC 791 section 3.1"},
	TTL:           {"ttl", "its TTL or hop limit is 0", "RFC 1812 section 5.3.1"},
	Fragments:     {"fragments", "its sender has cut it, and the pieces do not fit together, or one of them did not come in time", "RFC 8200 section 4.5"},
	NoEroute:      {"no-eroute", "no eroute takes it", "RFC 4301 section 4.4.1"},
	ErouteDrop:    {"eroute-drop", "its eroute is to %drop", "RFC 4301 section 4.4.1"},
	ErouteReject:  {"eroute-reject", "its eroute is to %reject; the sender was told, as far as it may be", "RFC 1812 section 5.2.7.1"},
	ErouteTrap:    {"eroute-trap", "its eroute is to %trap or %trapsubnet, and it is not kept", "RFC 2367 section 3.1.6"},
	ErouteHold:    {"eroute-hold", "its eroute is to %hold, and a later packet has taken its place", ""},
	ErouteUnknown: {"eroute-unknown", "its eroute is to a word that this stack does not know", ""},
	HoldFull:      {"hold-full", "its eroute is to %hold, and no more packets can be kept", ""},
	HoldExpired:   {"hold-expired", "it was kept for %hold, and nothing took the eroute's place in time", ""},
	HoldEnded:     {"hold-ended", "it was kept for %hold, and the eroute was deleted", ""},
	NoNumbers:     {"no-numbers", "all sequence numbers of its SA have been used", "RFC 4303 section 3.3.3"},
	NotReserved:   {"not-reserved", "the next sequence numbers of its SA could not be written down in time", ""},
	TooBig:        {"too-big", "it is longer than its way takes, and must not be cut", "RFC 4301 section 8.2"},
	NotSent:       {"not-sent", "the physical device did not take it", ""},

	NotESP:       {"not-esp", "it came to a port of ESP in UDP and is none: a keepalive, IKE, or no valid UDP packet", "RFC 3948 sections 2.2 and 2.3"},
	WrongOrder:   {"wrong-order", "a layer is missing, or is not the next one of its group", "RFC 4301 section 5.2"},
	WrongSource:  {"wrong-source", "it does not come from the source of its SA", "RFC 4301 section 5.2"},
	WrongUDP:     {"wrong-udp", "it came in UDP and its SA is without, or the other way round", "RFC 3948 section 3"},
	Replayed:     {"replayed", "its sequence number was received before, or is 0", "RFC 4303 section 3.4.3"},
	TooOld:       {"too-old", "its sequence number is below the replay window", "RFC 4303 section 3.4.3"},
	BelowMark:    {"below-mark", "an earlier SA with this key has received its sequence number", "RFC 4303 section 3.4.3"},
	BadICV:       {"bad-icv", "its integrity check value is wrong: another key, or a forgery", "RFC 4303 section 3.4.4"},
	BadPadding:   {"bad-padding", "its padding is longer than the packet: another key, or a forgery", "RFC 4303 section 2.4"},
	Dummy:        {"dummy", "it is a dummy packet, which hides how much its sender has to send: no error", "RFC 4303 section 2.6"},
	NoTunnel:     {"no-tunnel", "the tunnel header that its group demands is missing, or has other addresses", "RFC 4301 section 5.2"},
	Congestion:   {"congestion", "a router marked its tunnel header for congestion, and its sender knows no such marks (ECN)", "RFC 6040 section 4.2"},
	NoPolicy:     {"no-policy", "its group has no inbound policy, and one is required", "RFC 4301 section 5.2"},
	Policy:       {"policy", "the inbound policy does not admit what came out of its group", "RFC 4301 section 5.2"},
	NotDelivered: {"not-delivered", "the virtual device did not take it: it is down, or the host could not be kept from answering it", ""},
}

// String returns the reason as one word, as in bad-icv; "" for [None].
func (r Reason) String() string {
	if r >= numReasons {
		return "reason-" + strconv.Itoa(int(r))
	}
	return rows[r].word
}

// Meaning returns a sentence about the packet, without a full stop.
func (r Reason) Meaning() string {
	if r >= numReasons {
		return ""
	}
	return rows[r].meaning
}

// RFC returns the clause that requires the drop, or from which it follows; "" if there
// is none.
func (r Reason) RFC() string {
	if r >= numReasons {
		return ""
	}
	return rows[r].rfc
}

// All returns all reasons except [None], in the order of the table.
func All() []Reason {
	l := make([]Reason, 0, numReasons-1)
	for r := None + 1; r < numReasons; r++ {
		l = append(l, r)
	}
	return l
}

// Parse returns the reason of a word.
func Parse(word string) (r Reason, ok bool) {
	for _, r := range All() {
		if rows[r].word == word {
			return r, true
		}
	}
	return None, false
}

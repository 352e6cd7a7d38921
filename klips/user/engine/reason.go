package engine

import "strconv"

// A Reason is why a packet went no further, or why it went in clear.
type Reason uint8

// The reasons. Those from BadPacket on are for packets that are not carried.
const (
	None Reason = iota
	// OwnTraffic: the host's own ESP, AH or IKE goes out in clear.
	OwnTraffic
	// Pass: an eroute to %pass.
	Pass
	// BadPacket: this is no valid IP packet, or a header in it is none.
	BadPacket
	// Options: an IPv4 packet with options, or one whose TTL is 0.
	Options
	NoEroute
	Drop
	Reject
	Trap
	Hold
	// UnknownWord: the eroute's SAID is a word that this stack does not know.
	UnknownWord
	// NoSA: the SA that the eroute leads to, or that the packet names, does not
	// exist.
	NoSA
	// NotUsable: an SA is larval or dead.
	NotUsable
	// Expired: a hard lifetime limit has passed, or all sequence numbers have been
	// used (RFC 4303 section 3.3.3).
	Expired
	// Unreserved: the sequence number is not kept yet as one that may have been sent.
	Unreserved
	// TooBig: the packet is longer than the path takes, and may not be cut.
	TooBig
	// Nesting: eroutes lead protected packets to each other.
	Nesting
	// Failed: a transform could not be done.
	Failed
	// Refused: the kernel did not take the packet.
	Refused

	// NotInner: a layer must not be the outermost, or one around it is missing.
	NotInner
	// Replay: the sequence number has been received or is too old.
	Replay
	// BadICV: the integrity check value is wrong.
	BadICV
	// WrongSource: the packet does not come from the SA's source.
	WrongSource
	// WrongEncapsulation: the packet comes in UDP and should not, or the other way
	// round.
	WrongEncapsulation
	// NoTunnel: the group demands a tunnel header that is not there, or another.
	NoTunnel
	// Policy: what came out of the group is not what an inbound policy admits, or
	// there is no policy and one is required.
	Policy
	// NotESP: a packet to a port of encapsulated ESP is no ESP.
	NotESP
	// DeviceDown: the virtual device did not take the packet.
	DeviceDown
)

var reasons = [...]string{
	None:               "",
	OwnTraffic:         "the host's own ESP, AH or IKE",
	Pass:               "eroute to %pass",
	BadPacket:          "not a valid packet",
	Options:            "IP options, or a TTL of 0",
	NoEroute:           "no eroute",
	Drop:               "eroute to %drop",
	Reject:             "eroute to %reject",
	Trap:               "eroute to %trap or %trapsubnet",
	Hold:               "eroute to %hold",
	UnknownWord:        "eroute to a word that is none",
	NoSA:               "no such SA",
	NotUsable:          "SA not usable",
	Expired:            "lifetime or sequence numbers used up",
	Unreserved:         "sequence numbers not reserved in time",
	TooBig:             "too big, and must not be fragmented",
	Nesting:            "eroutes in a circle",
	Failed:             "transform failed",
	Refused:            "not taken by the physical device",
	NotInner:           "layer missing or out of order",
	Replay:             "replayed, or older than the window",
	BadICV:             "wrong ICV",
	WrongSource:        "not from the SA's source",
	WrongEncapsulation: "wrong UDP encapsulation",
	NoTunnel:           "tunnel header missing or wrong",
	Policy:             "outside the inbound policy",
	NotESP:             "not ESP in UDP",
	DeviceDown:         "not taken by the virtual device",
}

// String returns the reason in a few words.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "reason(" + strconv.Itoa(int(r)) + ")"
}

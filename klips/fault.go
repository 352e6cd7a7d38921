package klips

import "strings"

// A Fault is what is wrong with a request, where an errno does not tell. A stack
// puts it into an [OpError]; the commands have the words for people.
type Fault uint8

// The faults.
const (
	FaultNone Fault = iota
	// FaultDestination: an SA whose destination is 0.0.0.0 or ::. An SA is named by
	// the address that its packets go to (RFC 4301 section 4.1).
	FaultDestination
	// FaultCPI: a comp SA whose SPI has more than 16 bits; a CPI has 16 on the wire
	// (RFC 3173 section 3.3).
	FaultCPI
	// FaultEncapsulation: UDP encapsulation of what is not ESP (RFC 3948 section 1).
	FaultEncapsulation
	// FaultMast: a mast device, which only a KLIPS kernel has.
	FaultMast
	// FaultFlow6: an eroute of IPv6 with a protocol or ports, on a KLIPS kernel. That
	// stores the protocol in the source address, so that the eroute takes other packets.
	FaultFlow6
	// FaultAlgorithm: a KLIPS kernel takes the SA and has no such algorithm for its
	// protocol, so its packets are dropped.
	FaultAlgorithm
	// FaultAH6: a KLIPS kernel takes AH over IPv6 and drops its packets.
	FaultAH6
	// FaultNoEffect: a KLIPS kernel answered that it is done, and nothing changed.
	FaultNoEffect
	// FaultKeyUsed: an outbound SA with a key and salt of a combined mode with which
	// another outbound SA sends. One nonce must not be used twice with a key: that
	// reveals what the packets hold and lets others forge them (RFC 4106 sections 2
	// and 3.1, RFC 7634 section 2). The errno is EKEYREJECTED; OpError.Other is the
	// other SA.
	FaultKeyUsed
	// FaultNoNumbers: an SA with a key of which all sequence numbers have been used, as
	// far as is remembered; they must not cycle (RFC 4303 section 3.3.3). The errno is
	// EKEYEXPIRED.
	FaultNoNumbers
)

// maxCPI is the largest compression parameter index (RFC 3173 section 3.3).
const maxCPI = 0xffff

// String returns a word for logs.
func (f Fault) String() string {
	switch f {
	case FaultNone:
		return "none"
	case FaultDestination:
		return "unspecified destination"
	case FaultCPI:
		return "CPI of more than 16 bits"
	case FaultEncapsulation:
		return "UDP encapsulation of a protocol other than ESP"
	case FaultMast:
		return "mast device"
	case FaultFlow6:
		return "IPv6 eroute with a protocol"
	case FaultAlgorithm:
		return "algorithm that the kernel lacks"
	case FaultAH6:
		return "AH over IPv6"
	case FaultNoEffect:
		return "the kernel has done nothing"
	case FaultKeyUsed:
		return "key of a combined mode that another outbound SA has"
	case FaultNoNumbers:
		return "key without sequence numbers left"
	}
	return "unknown fault"
}

// Fault returns what is wrong with an SA on the stacks user and xfrm, although a
// KLIPS kernel takes it: FaultDestination, FaultCPI, FaultEncapsulation or
// FaultNone. It does not look at algorithms and keys, see [SASpec.Check].
func (s *SASpec) Fault() Fault {
	switch {
	case s.ID.Dst.IsValid() && s.ID.Dst.IsUnspecified():
		return FaultDestination
	case s.ID.Proto == ProtoComp && s.ID.SPI > maxCPI:
		return FaultCPI
	case s.NATT.Type != NATTNone && s.ID.Proto != ProtoESP:
		return FaultEncapsulation
	}
	return FaultNone
}

// DeviceFault returns FaultMast for the name of a mast device, else FaultNone. It is
// for the stacks that have none.
func DeviceFault(name string) Fault {
	if strings.HasPrefix(name, "mast") {
		return FaultMast
	}
	return FaultNone
}

// WithPorts returns n with the ports of its type where a port is 0, which is none:
// 4500 for NATTNonESP (RFC 3948 section 2.1) and 500 for NATTNonIKE
// (draft-ietf-ipsec-udp-encaps-02). NATTNone stays as it is.
func (n NATT) WithPorts() NATT {
	var port uint16
	switch n.Type {
	case NATTNonESP:
		port = 4500
	case NATTNonIKE:
		port = 500
	default:
		return n
	}
	if n.SPort == 0 {
		n.SPort = port
	}
	if n.DPort == 0 {
		n.DPort = port
	}
	return n
}

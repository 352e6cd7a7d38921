package ipip

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Codepoints of Explicit Congestion Notification, the low bits of TOS and traffic class
// (RFC 3168 section 5).
const (
	notECT  = 0 // the transport does not support ECN
	ect1    = 1
	ect0    = 2
	ce      = 3 // a router experienced congestion
	ecnMask = 3
)

// mark updates the ECN field of the inner packet p from an outer TOS (RFC 6040 section
// 4.2). p must have a complete header. It returns false if the packet must be dropped:
// it met congestion, and its transport does not support ECN.
func mark(p []byte, outer uint8) bool {
	shift := 0
	if p[0]>>4 == 6 {
		shift = 4 // the traffic class begins in the middle of the first byte
	}
	inner := p[1] >> shift & ecnMask
	now := inner
	switch outer & ecnMask {
	case ce:
		if inner == notECT {
			return false
		}
		now = ce
	case ect1:
		if inner == ect0 {
			now = ect1
		}
	}
	if now == inner {
		return true
	}
	before := binary.BigEndian.Uint16(p)
	p[1] = p[1]&^(ecnMask<<shift) | now<<shift
	if p[0]>>4 == 4 {
		// A wrong checksum stays wrong (RFC 1624 section 3).
		sum := uint64(^binary.BigEndian.Uint16(p[10:])) + uint64(^before) + uint64(binary.BigEndian.Uint16(p))
		binary.BigEndian.PutUint16(p[10:], ^packet.Fold(sum))
	}
	return true
}

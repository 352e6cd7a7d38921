package ipip

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Codepoints of Explicit Congestion Notification, the low bits of TOS and traffic class
// (RFC 3168 section 5).
const (
	notECT  = 0 // the transport knows no ECN
	ect1    = 1
	ect0    = 2
	ce      = 3 // a router met congestion
	ecnMask = 3
)

// mark lets the inner packet p, whose header is there, have what its outer header of
// that TOS has met on its way (RFC 6040 section 4.2), and reports whether it may go on:
// a packet that met congestion and whose transport knows no ECN may not.
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
		// What the header had wrong stays wrong (RFC 1624 section 3).
		sum := uint64(^binary.BigEndian.Uint16(p[10:])) + uint64(^before) + uint64(binary.BigEndian.Uint16(p))
		binary.BigEndian.PutUint16(p[10:], ^packet.Fold(sum))
	}
	return true
}

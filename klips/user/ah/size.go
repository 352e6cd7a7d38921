package ah

import "github.com/klips-go/ipsec/klips/alg"

// A Size is what the AH of an SA adds to packets.
type Size struct {
	icv    int // bytes
	align8 bool
}

// SizeOf returns what AH with an algorithm adds to packets. align8 is that of [Config].
func SizeOf(a alg.Auth, align8 bool) Size {
	auth, _ := a.Info()
	return Size{auth.ICV, align8}
}

// Overhead returns the bytes that AH adds to a packet of the given IP version (4 or 6):
// a multiple of 4, in IPv6 of 8 (RFC 4302 section 3.3.3.2.1); 24 with the 96-bit ICVs.
func (s Size) Overhead(version uint8) int {
	if version == 6 || s.align8 {
		return (FixedLen + s.icv + 7) &^ 7
	}
	return (FixedLen + s.icv + 3) &^ 3
}

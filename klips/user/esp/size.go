package esp

import "github.com/klips-go/ipsec/klips"

// A Size is the overhead of a transform's ESP. The zero value adds nothing.
type Size struct{ front, align, icv int }

// SizeOf returns the overhead of a transform's ESP.
func SizeOf(t klips.Transform) Size {
	enc, _ := t.Enc.Info()
	auth, _ := t.Auth.Info()
	return Size{HeaderLen + enc.IV, align(enc.Block), enc.ICV + auth.ICV}
}

// Overhead returns the bytes before and after a payload of the given length in bytes
// (the part after the IP header).
func (s Size) Overhead(payload int) (front, behind int) {
	if s.align == 0 {
		return 0, 0
	}
	return s.front, pad(payload, s.align) + 2 + s.icv
}

// align returns the number of which the ciphertext's length is a multiple. The trailer
// ends on a 4-byte border for every cipher (RFC 4303 section 2.4).
func align(block int) int { return max(block, 4) }

// pad returns the length of the smallest padding that aligns payload, padding and
// trailer. align is a power of two.
func pad(payload, align int) int { return -(payload + 2) & (align - 1) }

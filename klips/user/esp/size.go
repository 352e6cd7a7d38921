package esp

import "github.com/klips-go/ipsec/klips"

// A Size is what ESP of a transform adds to packets. The zero value adds nothing.
type Size struct{ front, align, icv int }

// SizeOf returns what ESP of a transform adds.
func SizeOf(t klips.Transform) Size {
	enc, _ := t.Enc.Info()
	auth, _ := t.Auth.Info()
	return Size{HeaderLen + enc.IV, align(enc.Block), enc.ICV + auth.ICV}
}

// Overhead returns the bytes in front of and behind a payload of the given length in bytes
// (what follows the IP header).
func (s Size) Overhead(payload int) (front, behind int) {
	if s.align == 0 {
		return 0, 0
	}
	return s.front, pad(payload, s.align) + 2 + s.icv
}

// align returns what the ciphertext of a cipher with such blocks is a multiple of. The
// trailer ends on a 4-byte border whatever the cipher (RFC 4303 section 2.4).
func align(block int) int { return max(block, 4) }

// pad returns the smallest padding that aligns payload, padding and trailer. align is a
// power of two.
func pad(payload, align int) int { return -(payload + 2) & (align - 1) }

package esp

import "github.com/klips-go/ipsec/klips"

// A Size is what the ESP of a transform adds to packets. The zero value adds nothing.
type Size struct {
	iv    int // bytes of IV in each packet
	align int // the ciphertext's length is a multiple of it, which is a power of two
	icv   int // bytes of ICV in each packet
}

// SizeOf returns what the ESP of a transform adds to packets.
func SizeOf(t klips.Transform) Size {
	enc, _ := t.Enc.Info()
	auth, _ := t.Auth.Info()
	// The trailer ends on a 4-byte border for every cipher (RFC 4303 section 2.4).
	return Size{enc.IV, max(enc.Block, 4), enc.ICV + auth.ICV}
}

// TrailerLen is the length in bytes of pad length and next header.
const TrailerLen = 2

// ICV returns the length of the ICV in bytes.
func (s Size) ICV() int { return s.icv }

// Overhead returns the bytes that ESP adds before and after a payload of the given
// length in bytes (the part after the IP header). The padding is minimal.
func (s Size) Overhead(payload int) (front, behind int) {
	if s.align == 0 {
		return 0, 0
	}
	pad := -(payload + TrailerLen) & (s.align - 1)
	return HeaderLen + s.iv, pad + TrailerLen + s.icv
}

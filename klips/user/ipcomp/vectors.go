package ipcomp

import (
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/klips/user/internal/vector"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Vector is a packet whose compressed payload is known from elsewhere.
type Vector struct {
	Source     string // the program that has made it
	Clear      string // the payload
	Compressed string // in hexadecimal, without the IPComp header
}

// Vectors returns the vectors. RFC 2394 has none; zlib, a program in C, has made these.
// Each compressor may choose another form, so only the way back has to be the same.
func Vectors() []Vector {
	return []Vector{
		{"zlib 1.2.13", strings.Repeat("a tunnel is a tunnel is a tunnel, ", 6), "4b542829cdcb4bcd51c82c5648c4c2d6c12a3a38550000"},
		{"RFC 1951 section 3.2.4, stored", "IPsec", "010500faff4950736563"},
	}
}

// Check decompresses the packet, compresses it, and decompresses the result, with the code
// that all packets use. The error is the difference. A payload that KLIPS' rules leave as it
// is, because it is short, is not compressed.
func (v *Vector) Check() error {
	const cpi = 0x1004
	clear := vector.IP(packet.ProtoUDP, []byte(v.Clear))
	wire := vector.IP(packet.ProtoComp, append([]byte{packet.ProtoUDP, 0, cpi >> 8, cpi & 0xff}, vector.Hex(v.Compressed)...))
	if err := decompress(wire, clear, cpi); err != nil {
		return err
	}
	b, h, err := vector.Packet(clear)
	if err != nil {
		return err
	}
	if !NewCompressor().Compress(b, &h, cpi) {
		if len(v.Clear) >= minPayload {
			return fmt.Errorf("%d bytes are not compressed", len(v.Clear))
		}
		return nil
	}
	return decompress(b.Bytes(), clear, cpi)
}

// decompress compares the decompressed form of a packet with another one.
func decompress(wire, clear []byte, cpi int) error {
	b, h, err := vector.Packet(wire)
	if err != nil {
		return err
	}
	if err := NewDecompressor().Decompress(b, &h, uint16(cpi), DefaultMax); err != nil {
		return err
	}
	return vector.Same("decompressed", b.Bytes(), clear)
}

// Package vector reads the test vectors that stand beside the algorithms. They are a part
// of the program, which can test itself with them.
package vector

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Hex decodes hexadecimal text, which may contain white space. Other text is a mistake in
// the program, and a panic.
func Hex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Packet returns a buffer with a copy of the IP packet p and the usual room around it, and
// the parsed header.
func Packet(p []byte) (*packet.Buffer, packet.Header, error) {
	b := packet.NewBuffer(p)
	h, ok := packet.ParseIP(b.Bytes())
	if !ok {
		return nil, h, fmt.Errorf("%x is no IP packet", p)
	}
	return b, h, nil
}

// Header returns an error if the header of a packet, as it was parsed, is not the known one.
func Header(spi, seq uint32, err error, wantSPI uint32, wantSeq uint64) error {
	if err != nil || spi != wantSPI || seq != uint32(wantSeq) {
		return fmt.Errorf("its header has SPI %#x and sequence number %d (%v), not %#x and %d", spi, seq, err, wantSPI, uint32(wantSeq))
	}
	return nil
}

// Same returns an error if a result is not the known one. how is what was done, as in sealed.
func Same(how string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("it is %s as %x, not as %x", how, got, want)
	}
	return nil
}

// IP returns an IPv4 packet.
func IP(proto uint8, payload []byte) []byte {
	p := append([]byte{0: 0x45, 8: 64, 9: proto, 12: 192, 0, 2, 1, 198, 51, 100, 2}, payload...)
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return p
}

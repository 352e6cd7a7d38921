// Package esp puts IP packets into the Encapsulating Security Payload and takes
// them out (RFC 4303), in place and in transport mode; tunnel mode is package
// ipip before it. Sequence numbers come from the caller; 32 bits of them are in
// the packet, and with extended sequence numbers (RFC 4303 section 2.2.1) the
// high 32 bits are authenticated too.
//
// Ciphers are 3DES-CBC (RFC 2451), AES-CBC (RFC 3602) and NULL (RFC 2410), with
// the HMACs of RFC 2403, 2404 and 4868, and the combined modes AES-GCM with a
// 16-byte ICV (RFC 4106) and ChaCha20-Poly1305 (RFC 7634). What KLIPS leaves on
// the wire is left here too: minimal padding with the bytes 1, 2, 3, …
//
// A [Sealer] or [Opener] belongs to one goroutine. Neither locks, and neither
// allocates per packet.
package esp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// HeaderLen is the bytes of SPI and sequence number in front of the IV.
const HeaderLen = 8

// Errors of the packet functions. A packet that got one is not to be used
// further: its bytes may have changed.
var (
	// ErrShort: the packet is shorter than its header says or than the
	// algorithms need, or its length is not a multiple of 4 or of the block.
	ErrShort = errors.New("esp: packet length is not possible")
	// ErrRunt: not even the ESP header, or not the ICV, is there. It is an
	// ErrShort; KLIPS counts it as dropped, and other bad lengths as errors.
	ErrRunt = fmt.Errorf("%w: truncated", ErrShort)
	// ErrFragment: ESP is for whole datagrams (RFC 4303 section 3.4.1).
	ErrFragment = errors.New("esp: packet is a fragment")
	// ErrAuth: the ICV is wrong.
	ErrAuth = errors.New("esp: authentication failed")
	// ErrPadding: the pad length says more than there is.
	ErrPadding = errors.New("esp: pad length beyond the packet")
	// ErrRoom: the buffer has too little room in front or behind.
	ErrRoom = errors.New("esp: no room in the buffer")
	// ErrTooLong: the packet would exceed packet.MaxSize.
	ErrTooLong = errors.New("esp: packet becomes too long")
)

// Errors of NewSealer and NewOpener.
var (
	// ErrAlgorithm: the transform is unknown, or would protect nothing.
	ErrAlgorithm = errors.New("esp: unsupported transform")
	// ErrKey: a key is not as long as its algorithm wants.
	ErrKey = errors.New("esp: key has the wrong length")
)

// A Config says what an ESP SA does. The keys are copied.
type Config struct {
	SPI       uint32
	Transform klips.Transform // Comp is not looked at
	EncKey    []byte          // for combined modes the last 4 bytes are the salt
	AuthKey   []byte
	ESN       bool // sequence numbers are 64 bits long; without authentication it changes nothing
}

// ParseHeader returns SPI and sequence number of the ESP packet in b whose IP
// header is h (h.Proto is not looked at). The error is ErrShort when the length
// behind the IP header is not a multiple of 4, ErrRunt when there is no whole
// ESP header, and ErrFragment.
func ParseHeader(b *packet.Buffer, h *packet.Header) (spi, seq uint32, err error) {
	e, err := body(b, h)
	if err != nil {
		return 0, 0, err
	}
	if h.Frag {
		return 0, 0, ErrFragment
	}
	if len(e)%4 != 0 {
		return 0, 0, ErrShort
	}
	if len(e) < HeaderLen {
		return 0, 0, ErrRunt
	}
	return binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:]), nil
}

// body returns what is behind the IP header.
func body(b *packet.Buffer, h *packet.Header) ([]byte, error) {
	if h.Len < 20 || h.Total < h.Len || h.Total > b.Len() {
		return nil, ErrShort
	}
	return b.B[b.Off+h.Len : b.Off+h.Total : b.Off+h.Total], nil
}

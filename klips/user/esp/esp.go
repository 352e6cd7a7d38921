// Package esp seals and opens the Encapsulating Security Payload of IP packets (RFC
// 4303), in place and in transport mode; for tunnel mode, package ipip adds a header
// first. The caller supplies sequence numbers; the packet has 32 bits of them. With
// extended sequence numbers (RFC 4303 section 2.2.1) the high 32 bits are authenticated
// too.
//
// Ciphers are 3DES-CBC (RFC 2451), AES-CBC (RFC 3602) and NULL (RFC 2410), with the
// HMACs of RFC 2403, 2404 and 4868, and the combined modes AES-GCM with a 16-byte ICV
// (RFC 4106) and ChaCha20-Poly1305 (RFC 7634). Padding is as in KLIPS: minimal, with
// the bytes 1, 2, 3, …
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

// HeaderLen is the length in bytes of SPI and sequence number, before the IV.
const HeaderLen = 8

// Errors of the packet functions. After an error the packet must not be used: its bytes
// may have changed.
var (
	// ErrShort: the packet is shorter than its header says or than the
	// algorithms need, or its length is not a multiple of 4 or of the block.
	ErrShort = errors.New("esp: packet length is not possible")
	// ErrRunt: the ESP header or the ICV is incomplete. It is an ErrShort; KLIPS counts
	// it as dropped, and other bad lengths as errors.
	ErrRunt = fmt.Errorf("%w: truncated", ErrShort)
	// ErrFragment: ESP is for whole datagrams (RFC 4303 section 3.4.1).
	ErrFragment = errors.New("esp: packet is a fragment")
	// ErrAuth: the ICV is wrong.
	ErrAuth = errors.New("esp: authentication failed")
	// ErrPadding: the pad length exceeds the packet.
	ErrPadding = errors.New("esp: pad length beyond the packet")
	// ErrRoom: the buffer has too little room before or after the packet.
	ErrRoom = errors.New("esp: no room in the buffer")
	// ErrDue: the packet is in a queue, which must finish it first.
	ErrDue = errors.New("esp: packet is not finished")
	// ErrTooLong: the packet would exceed packet.MaxSize.
	ErrTooLong = errors.New("esp: packet becomes too long")
)

// Errors of NewSealer and NewOpener.
var (
	// ErrAlgorithm: the transform is unknown, or has neither encryption nor
	// authentication.
	ErrAlgorithm = errors.New("esp: unsupported transform")
	// ErrKey: the length of a key does not fit its algorithm.
	ErrKey = errors.New("esp: key has the wrong length")
)

// A Config configures an ESP SA. The keys are copied.
type Config struct {
	SPI       uint32
	Transform klips.Transform // Comp is ignored
	EncKey    []byte          // in combined modes the last 4 bytes are the salt
	AuthKey   []byte
	ESN       bool // sequence numbers are 64 bits long; no effect without authentication
}

// ParseHeader returns SPI and sequence number of the ESP packet in b with the IP header
// h; it ignores h.Proto. The error is ErrShort if the length after the IP header is not
// a multiple of 4, ErrRunt if the ESP header is incomplete, or ErrFragment.
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

// body returns the part after the IP header.
func body(b *packet.Buffer, h *packet.Header) ([]byte, error) {
	if h.Len < 20 || h.Total < h.Len || h.Total > b.Len() {
		return nil, ErrShort
	}
	return b.B[b.Off+h.Len : b.Off+h.Total : b.Off+h.Total], nil
}

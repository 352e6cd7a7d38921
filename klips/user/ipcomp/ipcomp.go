// Package ipcomp compresses the payload of IP packets (IPComp, RFC 3173) with raw
// DEFLATE (RFC 2394), in place, by KLIPS' rules for when to compress.
//
// A [Compressor] or [Decompressor] belongs to one goroutine. Neither locks, and neither
// allocates per packet once its buffers have grown to the usual sizes.
package ipcomp

import (
	"encoding/binary"
	"errors"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// HeaderLen is the length in bytes of the IPComp header: next header, flags, CPI.
const HeaderLen = 4

// CPIDeflate is the well-known CPI of DEFLATE (RFC 3173 section 3.3), which is
// also its number in PF_KEY.
const CPIDeflate = 2

// DefaultMax is the maximum decompressed length after the IP header, in bytes, that
// KLIPS accepts from a device whose MTU is not larger.
const DefaultMax = 16260

// Errors of ParseHeader, Compress and Decompress.
var (
	// ErrShort: the packet is shorter than its headers say.
	ErrShort = errors.New("ipcomp: truncated packet")
	// ErrCPI: the CPI is neither the SA's nor that of DEFLATE.
	ErrCPI = errors.New("ipcomp: CPI of another SA")
	// ErrFragment: a fragment must be reassembled first.
	ErrFragment = errors.New("ipcomp: packet is a fragment")
	// ErrNested: IPComp inside IPComp.
	ErrNested = errors.New("ipcomp: compressed twice")
	// ErrInflate: the payload is not DEFLATE data.
	ErrInflate = errors.New("ipcomp: payload cannot be inflated")
	// ErrTooLong: the decompressed payload is longer than allowed.
	ErrTooLong = errors.New("ipcomp: inflated payload is too long")
	// ErrRoom: the buffer is too small for the decompressed packet.
	ErrRoom = errors.New("ipcomp: no room in the buffer")
)

// ParseHeader returns next header and CPI of the IPComp header in b after the IP header
// h; it ignores h.Proto. The flags are reserved and ignored (RFC 3173 section 3.3). The
// error is ErrShort.
func ParseHeader(b *packet.Buffer, h *packet.Header) (next uint8, cpi uint16, err error) {
	c, err := body(b, h)
	if err != nil {
		return 0, 0, err
	}
	return c[0], binary.BigEndian.Uint16(c[2:]), nil
}

// body returns the part after the IP header, at least an IPComp header.
func body(b *packet.Buffer, h *packet.Header) ([]byte, error) {
	if h.Len < 20 || h.Total < h.Len+HeaderLen || h.Total > b.Len() {
		return nil, ErrShort
	}
	return b.B[b.Off+h.Len : b.Off+h.Total : b.Off+h.Total], nil
}

// Package ipcomp compresses the payload of IP packets (IPComp, RFC 3173) with
// raw DEFLATE (RFC 2394), in place, with KLIPS' rules of when it is worth it.
//
// A [Compressor] or [Decompressor] belongs to one goroutine. Neither locks, and
// neither allocates per packet once it has met packets of the usual sizes.
package ipcomp

import (
	"encoding/binary"
	"errors"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// HeaderLen is the bytes of the IPComp header: next header, flags, CPI.
const HeaderLen = 4

// CPIDeflate is the well-known CPI of DEFLATE (RFC 3173 section 3.3), which is
// also its number in PF_KEY.
const CPIDeflate = 2

// DefaultMax is the inflated length that KLIPS takes from a device whose MTU is
// not larger, in bytes behind the IP header.
const DefaultMax = 16260

// Errors of ParseHeader, Compress and Decompress.
var (
	// ErrShort: the packet is shorter than its headers say.
	ErrShort = errors.New("ipcomp: truncated packet")
	// ErrCPI: the CPI is neither the SA's nor that of DEFLATE.
	ErrCPI = errors.New("ipcomp: CPI of another SA")
	// ErrFragment: a fragment has to be reassembled first.
	ErrFragment = errors.New("ipcomp: packet is a fragment")
	// ErrNested: IPComp inside IPComp.
	ErrNested = errors.New("ipcomp: compressed twice")
	// ErrInflate: the payload is not DEFLATE data.
	ErrInflate = errors.New("ipcomp: payload cannot be inflated")
	// ErrTooLong: the inflated payload is longer than allowed.
	ErrTooLong = errors.New("ipcomp: inflated payload is too long")
	// ErrRoom: the buffer is too small for the inflated packet.
	ErrRoom = errors.New("ipcomp: no room in the buffer")
)

// ParseHeader returns next header and CPI of the IPComp header in b, where h is the
// packet's IP header (h.Proto is not looked at). The flags are reserved and are ignored
// (RFC 3173 section 3.3). The error is ErrShort.
func ParseHeader(b *packet.Buffer, h *packet.Header) (next uint8, cpi uint16, err error) {
	c, err := body(b, h)
	if err != nil {
		return 0, 0, err
	}
	return c[0], binary.BigEndian.Uint16(c[2:]), nil
}

// body returns what is behind the IP header, at least an IPComp header.
func body(b *packet.Buffer, h *packet.Header) ([]byte, error) {
	if h.Len < 20 || h.Total < h.Len+HeaderLen || h.Total > b.Len() {
		return nil, ErrShort
	}
	return b.B[b.Off+h.Len : b.Off+h.Total : b.Off+h.Total], nil
}

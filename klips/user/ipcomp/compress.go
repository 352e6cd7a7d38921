package ipcomp

import (
	"compress/flate"
	"encoding/binary"
	"errors"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// KLIPS' rules for when to compress.
const (
	minPayload = 90 // bytes; shorter ones are not compressed

	// After firstTries failures in a row the next firstSkip packets are not compressed;
	// then after every moreTries failures the next moreSkip.
	firstTries, firstSkip = 8, 4
	moreTries, moreSkip   = 2, 8
)

// A Compressor compresses for one SA. It remembers failures, so that traffic that does
// not shrink is seldom compressed.
type Compressor struct {
	w           *flate.Writer // made at first use, because it is large
	out         bounded
	tries, skip int
}

// NewCompressor makes a Compressor.
func NewCompressor() *Compressor { return &Compressor{} }

// limit returns the maximum useful length of a compressed payload: it must save the
// header's length and a margin.
func limit(payload int) int {
	margin := 32
	if payload > 512 {
		margin = payload / 16
	}
	return payload - HeaderLen - margin
}

// Compress compresses the part of the packet after the IP header and, in IPv6, after
// the extension headers that [packet.ParseIP] skips, and inserts an IPComp header with
// the given CPI before it. h is the parsed header, which Compress updates. Bytes after
// the packet's total length are dropped. done is false, and packet and h are unchanged,
// if the packet is a fragment, is AH, ESP or IPComp already, is short, would not shrink
// enough, or if the last packets did not.
func (c *Compressor) Compress(b *packet.Buffer, h *packet.Header, cpi uint16) (done bool) {
	payload := h.Total - h.Len
	switch h.Proto {
	case packet.ProtoComp, packet.ProtoAH, packet.ProtoESP:
		return false
	}
	if h.Frag || payload < minPayload {
		return false
	}
	if c.skip > 0 {
		c.skip--
		return false
	}
	p := b.Bytes()
	z, ok := c.deflate(p[h.Len:h.Total], limit(payload))
	if !ok {
		c.tries++
		switch c.tries {
		case firstTries:
			c.skip = firstSkip
		case firstTries + moreTries:
			c.tries, c.skip = firstTries, moreSkip
		}
		return false
	}
	c.tries, c.skip = 0, 0

	n := h.Len + HeaderLen + len(z)
	p[h.Len], p[h.Len+1] = h.Proto, 0
	binary.BigEndian.PutUint16(p[h.Len+2:], cpi)
	copy(p[h.Len+HeaderLen:], z)
	p[h.ProtoOff] = packet.ProtoComp
	b.End = b.Off + n
	packet.SetTotal(p, n)
	packet.FixChecksum(p)
	h.Proto, h.Total = packet.ProtoComp, n
	return true
}

// deflate returns the compressed form of p, valid until the next call, and whether it
// has at most limit bytes.
func (c *Compressor) deflate(p []byte, limit int) ([]byte, bool) {
	if cap(c.out.b) < limit {
		c.out.b = make([]byte, 0, max(limit, 1600))
	}
	c.out.b, c.out.limit = c.out.b[:0], limit
	if c.w == nil {
		w, err := flate.NewWriter(&c.out, 6)
		if err != nil {
			return nil, false
		}
		c.w = w
	} else {
		c.w.Reset(&c.out)
	}
	if _, err := c.w.Write(p); err != nil {
		return nil, false
	}
	if err := c.w.Close(); err != nil {
		return nil, false
	}
	return c.out.b, true
}

var errFull = errors.New("ipcomp: no gain")

// A bounded is a buffer that refuses to grow beyond its limit.
type bounded struct {
	b     []byte
	limit int
}

func (w *bounded) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > w.limit {
		return 0, errFull
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

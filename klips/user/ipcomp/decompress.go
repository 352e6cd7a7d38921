package ipcomp

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/flate"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Decompressor decompresses packets, of any number of SAs.
type Decompressor struct {
	in  []byte // copy of the compressed payload; grows as needed
	src bytes.Reader
	r   interface {
		io.Reader
		flate.Resetter
	}
	over [1]byte
}

// NewDecompressor makes a Decompressor, which takes about 40 KB.
func NewDecompressor() *Decompressor {
	d := &Decompressor{in: make([]byte, 0, 2048)}
	d.r = flate.NewReader(&d.src).(interface {
		io.Reader
		flate.Resetter
	})
	return d
}

// Decompress decompresses the IPComp packet in b with the IP header h, and removes the
// IPComp header; h is invalid afterwards. cpi is the SA's; the well-known CPI of
// DEFLATE is accepted too. The decompressed payload may have at most most bytes, see
// [DefaultMax]. The packet moves within the buffer if there is too little room after
// it.
//
// Errors are ErrShort, ErrCPI, ErrFragment and ErrNested, after which
// the packet is unchanged, and ErrInflate, ErrTooLong and ErrRoom, after which it
// is lost.
func (d *Decompressor) Decompress(b *packet.Buffer, h *packet.Header, cpi uint16, most int) error {
	next, got, err := ParseHeader(b, h)
	switch {
	case err != nil:
		return err
	case got != cpi && got != CPIDeflate:
		return ErrCPI
	case h.Frag:
		return ErrFragment
	case next == packet.ProtoComp:
		return ErrNested
	}
	most = max(min(most, packet.MaxSize-h.Len), 0)
	d.in = append(d.in[:0], b.B[b.Off+h.Len+HeaderLen:b.Off+h.Total]...)
	if have := len(b.B) - b.Off - h.Len; have < most {
		// Use the room before the packet too.
		off := max(b.Off-(most-have), 0)
		copy(b.B[off:], b.B[b.Off:b.Off+h.Len])
		b.Off = off
	}
	room := min(len(b.B)-b.Off-h.Len, most)
	start := b.Off + h.Len
	n, err := d.inflate(b.B[start : start+room])
	if err == ErrTooLong && room < most {
		err = ErrRoom
	}
	if err != nil {
		return err
	}
	b.End = start + n
	p := b.Bytes()
	p[h.ProtoOff] = next
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return nil
}

// inflate fills out from d.in and returns the length.
func (d *Decompressor) inflate(out []byte) (n int, err error) {
	d.src.Reset(d.in)
	if err := d.r.Reset(&d.src, nil); err != nil {
		return 0, ErrInflate
	}
	for {
		to := out[n:]
		full := len(to) == 0
		if full {
			to = d.over[:] // to detect more data than fits
		}
		m, err := d.r.Read(to)
		if full && m > 0 {
			return 0, ErrTooLong
		}
		n += m
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return 0, ErrInflate
		}
	}
}

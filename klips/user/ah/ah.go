// Package ah adds and removes the Authentication Header of IP packets (RFC 4302), in
// place and in transport mode; for tunnel mode, package ipip adds a header first. The
// caller supplies sequence numbers; the packet has 32 bits of them. With extended
// sequence numbers (RFC 4302 section 2.5.1) the high 32 bits are authenticated too.
//
// KLIPS has AH only for IPv4 without options, with MD5 and SHA-1. For all others the
// RFC defines what is authenticated; see mutable.go.
//
// A [Sealer] or [Opener] belongs to one goroutine. Neither locks, and neither
// allocates per packet.
package ah

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// FixedLen is the length in bytes of the header before the ICV.
const FixedLen = 12

// Errors of the packet functions.
var (
	// ErrShort: the packet is shorter than its headers say, or has nothing after AH and
	// no right ICV.
	ErrShort = errors.New("ah: truncated packet")
	// ErrLength: the length of AH does not fit the algorithm.
	ErrLength = errors.New("ah: header length does not fit the algorithm")
	// ErrFragment: AH is for whole datagrams (RFC 4302 section 3.4.1).
	ErrFragment = errors.New("ah: packet is a fragment")
	// ErrAuth: the ICV is wrong.
	ErrAuth = errors.New("ah: authentication failed")
	// ErrOptions: an IPv4 option or IPv6 extension header is malformed, or its form at
	// the receiver cannot be predicted.
	ErrOptions = errors.New("ah: options that cannot be authenticated")
	// ErrRoom: the buffer has too little room before the packet.
	ErrRoom = errors.New("ah: no room in the buffer")
	// ErrDue: the packet is in a queue of AH, which must finish it first.
	ErrDue = errors.New("ah: packet is not finished")
	// ErrTooLong: the packet would exceed packet.MaxSize.
	ErrTooLong = errors.New("ah: packet becomes too long")
)

// Errors of NewSealer and NewOpener.
var (
	// ErrAlgorithm: the algorithm is unknown or AuthNone.
	ErrAlgorithm = errors.New("ah: unsupported algorithm")
	// ErrKey: the length of the key does not fit the algorithm.
	ErrKey = errors.New("ah: key has the wrong length")
)

// A Config configures an AH SA. The key is copied.
type Config struct {
	SPI  uint32
	Auth alg.Auth
	Key  []byte
	ESN  bool // sequence numbers are 64 bits long
	// Align8 has Seal pad the header to a multiple of 8 bytes over IPv4 too. An Opener
	// takes both.
	Align8 bool
}

// ParseHeader returns SPI and sequence number of the AH packet in b with the IP header
// h; it ignores h.Proto. The error is ErrShort if AH is not complete, or ErrFragment.
func ParseHeader(b *packet.Buffer, h *packet.Header) (spi, seq uint32, err error) {
	a, err := body(b, h)
	if err != nil {
		return 0, 0, err
	}
	if h.Frag {
		return 0, 0, ErrFragment
	}
	if len(a) < FixedLen || len(a) < headerLen(a) {
		return 0, 0, ErrShort
	}
	return binary.BigEndian.Uint32(a[4:]), binary.BigEndian.Uint32(a[8:]), nil
}

// headerLen returns the length of AH in bytes; its field has 32-bit words less two.
func headerLen(a []byte) int { return (int(a[1]) + 2) * 4 }

// body returns the part after the IP header.
func body(b *packet.Buffer, h *packet.Header) ([]byte, error) {
	if h.Len < 20 || h.Total < h.Len || h.Total > b.Len() {
		return nil, ErrShort
	}
	return b.B[b.Off+h.Len : b.Off+h.Total : b.Off+h.Total], nil
}

// A core is the common part of Sealer and Opener.
type core struct {
	mac *icv.MAC
	esn bool
}

func newCore(c *Config) (core, error) {
	m, err := icv.New(c.Auth, c.Key)
	switch {
	case errors.Is(err, icv.ErrKey):
		return core{}, fmt.Errorf("%w: algorithm %d, %d bits", ErrKey, c.Auth, len(c.Key)*8)
	case err != nil:
		return core{}, fmt.Errorf("%w %d", ErrAlgorithm, c.Auth)
	}
	return core{mac: m, esn: c.ESN}, nil
}

// message returns what is authenticated of packet p, whose ICV is zero: all of it, with
// its padding, and the high half of an extended sequence number (RFC 4302 sections 3.3.3
// and 3.3.3.2.2).
func (c *core) message(p []byte, seq uint64) icv.Message {
	return icv.Message{Data: p, High: uint32(seq >> 32), ESN: c.esn}
}

// A Sealer adds AH for one SA.
type Sealer struct {
	core
	Size
	spi     uint32
	scratch []byte // an IP header; grows as needed
}

// NewSealer makes a Sealer. Errors are ErrAlgorithm and ErrKey.
func NewSealer(c Config) (*Sealer, error) {
	k, err := newCore(&c)
	if err != nil {
		return nil, err
	}
	return &Sealer{core: k, Size: SizeOf(c.Auth, c.Align8), spi: c.SPI}, nil
}

// Seal inserts AH after the IP header of the packet in b and, in IPv6, after the
// extension headers that [packet.ParseIP] skips. h is the parsed header, which Seal
// updates. Bytes after the packet's total length are dropped. The IPv4 identification
// must be final.
//
// The packet gets the low 32 bits of seq. If the SA has extended sequence numbers, the
// high ones are authenticated. Otherwise they are ignored, and the caller must stop
// before they change (RFC 4302 section 3.3.2).
//
// Errors are ErrDue, for a packet that lacks something, ErrRoom and ErrTooLong, after
// which the packet and h are unchanged, and ErrOptions. An IPv6 fragment is ErrOptions; an
// IPv4 fragment is sealed, as in KLIPS.
func (s *Sealer) Seal(b *packet.Buffer, h *packet.Header, seq uint64) error {
	if b.Due != 0 {
		return ErrDue
	}
	s.scratch = slices.Grow(s.scratch[:0], h.Len)[:h.Len]
	p, err := s.lay(b, h, seq, s.scratch)
	if err != nil {
		return err
	}
	swap(s.scratch, p)
	m := s.message(p, seq)
	m.ICV = p[h.Len+FixedLen:][:s.mac.Size()]
	one := [1]icv.Message{m}
	s.mac.Sums(one[:])
	swap(s.scratch, p)
	return nil
}

// lay inserts an AH without ICV, and returns the packet. It writes the IP header of the
// packet, as it is authenticated, into header, which is as long.
func (s *Sealer) lay(b *packet.Buffer, h *packet.Header, seq uint64, header []byte) ([]byte, error) {
	n := s.Overhead(h.Version)
	total := h.Total + n
	if total > packet.MaxSize {
		return nil, ErrTooLong
	}
	if n > b.Off {
		return nil, ErrRoom
	}
	b.End = b.Off + h.Total
	b.Off -= n
	p := b.Bytes()
	copy(p[:h.Len], p[n:n+h.Len])
	p[h.ProtoOff] = packet.ProtoAH
	packet.SetTotal(p, total)
	packet.FixChecksum(p)

	a := p[h.Len : h.Len+n]
	clear(a)
	a[0], a[1] = h.Proto, byte(n/4-2)
	binary.BigEndian.PutUint32(a[4:], s.spi)
	binary.BigEndian.PutUint32(a[8:], uint32(seq))
	copy(header, p)
	if err := predict(header, h); err != nil {
		return nil, err
	}
	h.Proto, h.Total = packet.ProtoAH, total
	return p, nil
}

// An Opener checks and removes AH for one SA. For each packet the order is
// [ParseHeader], the pre-check of the replay window, Verify, the update of the
// window, Open.
type Opener struct {
	core
	now, later form
}

// NewOpener makes an Opener. Errors are ErrAlgorithm and ErrKey.
func NewOpener(c Config) (*Opener, error) {
	k, err := newCore(&c)
	if err != nil {
		return nil, err
	}
	return &Opener{core: k}, nil
}

// length checks the AH of the packet and returns its length in bytes. Over IPv4 it may
// be padded to a multiple of 8 bytes too, which is Linux' default. The ICV covers the
// padding (RFC 4302 section 3.3.3.2.1).
func (o *Opener) length(b *packet.Buffer, h *packet.Header) (int, error) {
	a, err := body(b, h)
	if err != nil {
		return 0, err
	}
	if len(a) < FixedLen {
		return 0, ErrShort
	}
	n, size := headerLen(a), o.mac.Size()
	switch {
	case n != Size{size, false}.Overhead(h.Version) && n != Size{size, true}.Overhead(h.Version):
		return 0, ErrLength
	case len(a) < n:
		return 0, ErrShort
	}
	return n, nil
}

// Verify checks length and ICV of the AH packet in b with the IP header h and the
// sequence number seq. The packet is the same afterwards. Of seq only the high 32 bits
// are used, and only with extended sequence numbers: [ParseHeader] returns the low ones,
// and the replay window infers the rest (see the method Extend of replay.Window). Errors
// are ErrShort, ErrLength, ErrOptions and ErrAuth. A packet with a wrong ICV and nothing
// after AH is ErrShort too, because KLIPS counts it so.
func (o *Opener) Verify(b *packet.Buffer, h *packet.Header, seq uint64) error {
	return o.VerifyAhead(b, h, seq, nil, nil, nil)
}

// Foresees reports whether VerifyAhead computes a second ICV.
func (o *Opener) Foresees() bool { return o.mac.Foresees() }

// VerifyAhead is Verify, and may compute a second ICV for ahead, as [icv.MAC.EqualAhead]
// does. next, with the IP header nh, is a later packet, which probably is of this SA and
// has the same high half of the sequence number; the result does not depend on that. nil:
// there is none.
func (o *Opener) VerifyAhead(b *packet.Buffer, h *packet.Header, seq uint64, ahead *icv.Ahead, next *packet.Buffer, nh *packet.Header) error {
	n, err := o.length(b, h)
	if err != nil {
		return err
	}
	if err := o.now.begin(o, b, h); err != nil {
		return err
	}
	x := o.message(o.now.p, seq)
	x.ICV = o.now.icv[:o.mac.Size()]
	var later icv.Message
	if next != nil {
		if _, err := o.length(next, nh); err == nil && o.later.begin(o, next, nh) == nil {
			later = o.message(o.later.p, seq)
		}
	}
	ok := o.mac.EqualAhead(x, ahead, later)
	o.now.end()
	o.later.end()
	switch {
	case ok:
		return nil
	case h.Len+n == h.Total:
		return ErrShort
	}
	return ErrAuth
}

// A form is a packet in the form that is authenticated: with the IP header that predict
// makes, and without the ICV.
type form struct {
	p      []byte // the packet; nil: none
	header []byte // the IP header that it had; grows as needed
	field  []byte // the place of the ICV in p
	icv    [icv.MaxSize]byte
}

// begin brings the packet in b, whose length is right, into that form. After the error
// ErrOptions it is as it was.
func (f *form) begin(o *Opener, b *packet.Buffer, h *packet.Header) error {
	p := b.B[b.Off : b.Off+h.Total]
	f.header = append(f.header[:0], p[:h.Len]...)
	if err := predict(f.header, h); err != nil {
		return err
	}
	f.p, f.field = p, p[h.Len+FixedLen:][:o.mac.Size()]
	copy(f.icv[:], f.field)
	clear(f.field)
	swap(f.header, p)
	return nil
}

// end brings the packet back into the form that it had.
func (f *form) end() {
	if f.p == nil {
		return
	}
	swap(f.header, f.p)
	copy(f.field, f.icv[:])
	f.p, f.field = nil, nil
}

// Open removes the AH of the packet in b with the IP header h, which is invalid
// afterwards. Errors are ErrShort and ErrLength.
func (o *Opener) Open(b *packet.Buffer, h *packet.Header) error {
	n, err := o.length(b, h)
	if err != nil {
		return err
	}
	p := b.B[b.Off : b.Off+h.Total]
	proto := p[h.Len]
	copy(p[n:n+h.Len], p[:h.Len])
	b.End = b.Off + h.Total
	b.Off += n
	p = b.Bytes()
	p[h.ProtoOff] = proto
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return nil
}

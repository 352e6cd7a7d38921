package pfkey

import (
	"bytes"
	"fmt"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// An Ident is one of the identity extensions, RFC 2367 section 2.3.5.
type Ident struct {
	Type uint16 // 0 none, 1 prefix, 2 FQDN, 3 user@FQDN, 4 KLIPS connection
	ID   uint64
	Text string // without its NUL
}

func (i *Ident) decode(r *reader) {
	i.Type = r.u16()
	r.zero(2)
	i.ID = r.u64()
	if r.err != nil || len(r.b) == 0 {
		return
	}
	if r.b[len(r.b)-1] != 0 {
		r.fail(syscall.EINVAL, "text without NUL at its end")
		return
	}
	text, _, _ := bytes.Cut(r.b, []byte{0})
	i.Text = string(text)
	r.b = nil
}

func (i *Ident) encode(w *writer) {
	w.u16(i.Type)
	w.zero(2)
	w.u64(i.ID)
	if i.Text != "" {
		if bytes.IndexByte([]byte(i.Text), 0) >= 0 {
			w.fail("text with a NUL")
		}
		w.bytes([]byte(i.Text))
		w.u8(0)
	}
}

func (i *Ident) check() *Error {
	if i.Type > 4 {
		return fault(syscall.EINVAL, "identity type %d", i.Type)
	}
	return nil
}

func (i *Ident) String() string { return fmt.Sprintf("type=%d id=%d %q", i.Type, i.ID, i.Text) }

// A Proposal is the extension PROPOSAL of ACQUIRE, RFC 2367 section 2.3.7.
type Proposal struct {
	Replay uint8
	Combs  []Comb
}

// A Comb is one combination of algorithms that a [Proposal] offers. Key lengths
// are in bits, times in seconds.
type Comb struct {
	Auth, Encrypt        uint8
	Flags                uint16
	AuthMin, AuthMax     uint16
	EncMin, EncMax       uint16
	SoftAlloc, HardAlloc uint32
	SoftBytes, HardBytes uint64
	SoftAdd, HardAdd     uint64
	SoftUse, HardUse     uint64
}

const combLen = 72

func (p *Proposal) decode(r *reader) {
	p.Replay = r.u8()
	r.skip(3)
	if len(r.b)%combLen != 0 {
		r.fail(syscall.EINVAL, "%d bytes are no combinations", len(r.b))
	}
	for r.err == nil && len(r.b) > 0 {
		var c Comb
		c.Auth, c.Encrypt, c.Flags = r.u8(), r.u8(), r.u16()
		c.AuthMin, c.AuthMax, c.EncMin, c.EncMax = r.u16(), r.u16(), r.u16(), r.u16()
		r.skip(4)
		c.SoftAlloc, c.HardAlloc = r.u32(), r.u32()
		c.SoftBytes, c.HardBytes = r.u64(), r.u64()
		c.SoftAdd, c.HardAdd = r.u64(), r.u64()
		c.SoftUse, c.HardUse = r.u64(), r.u64()
		p.Combs = append(p.Combs, c)
	}
}

func (p *Proposal) encode(w *writer) {
	w.u8(p.Replay)
	w.zero(3)
	for _, c := range p.Combs {
		w.u8(c.Auth)
		w.u8(c.Encrypt)
		for _, v := range [...]uint16{c.Flags, c.AuthMin, c.AuthMax, c.EncMin, c.EncMax} {
			w.u16(v)
		}
		w.u32(0)
		w.u32(c.SoftAlloc)
		w.u32(c.HardAlloc)
		for _, v := range [...]uint64{c.SoftBytes, c.HardBytes, c.SoftAdd, c.HardAdd, c.SoftUse, c.HardUse} {
			w.u64(v)
		}
	}
}

func (p *Proposal) check() *Error { return fault(syscall.EINVAL, "not taken in requests") }

func (p *Proposal) String() string {
	return fmt.Sprintf("replay=%d combinations=%d", p.Replay, len(p.Combs))
}

// An Algorithm is one entry of a [Supported] list. Lengths are in bits.
type Algorithm struct {
	ID      uint8
	IV      uint8
	MinBits uint16
	MaxBits uint16
}

// Supported is one of the supported-algorithms extensions of REGISTER replies,
// RFC 2367 section 2.3.8.
type Supported struct{ Algs []Algorithm }

func (s *Supported) decode(r *reader) {
	r.skip(4)
	for r.err == nil && len(r.b) > 0 {
		a := Algorithm{ID: r.u8(), IV: r.u8(), MinBits: r.u16(), MaxBits: r.u16()}
		r.skip(2)
		s.Algs = append(s.Algs, a)
	}
}

func (s *Supported) encode(w *writer) {
	w.u32(0)
	for _, a := range s.Algs {
		w.u8(a.ID)
		w.u8(a.IV)
		w.u16(a.MinBits)
		w.u16(a.MaxBits)
		w.u16(0)
	}
}

func (s *Supported) check() *Error  { return nil }
func (s *Supported) String() string { return fmt.Sprint(s.Algs) }

// An SPIRange is the extension SPIRANGE of GETSPI, RFC 2367 section 2.3.9.
type SPIRange struct{ Min, Max klips.SPI }

func (s *SPIRange) decode(r *reader) {
	s.Min, s.Max = klips.SPI(r.be32()), klips.SPI(r.be32())
	r.zero(4)
	r.end()
}

func (s *SPIRange) encode(w *writer) {
	w.be32(uint32(s.Min))
	w.be32(uint32(s.Max))
	w.u32(0)
}

func (s *SPIRange) check() *Error {
	switch {
	case s.Min > s.Max:
		return fault(syscall.EINVAL, "range from %#x down to %#x", uint32(s.Min), uint32(s.Max))
	case s.Min < klips.MinSPI:
		return fault(syscall.EEXIST, "SPIs below %#x are reserved", uint32(klips.MinSPI))
	}
	return nil
}

func (s *SPIRange) String() string {
	return fmt.Sprintf("min=%#x max=%#x", uint32(s.Min), uint32(s.Max))
}

// An Opaque is the body of an extension that is carried without interpretation:
// SENSITIVITY and KMPRIVATE, which KLIPS always refuses.
type Opaque []byte

func (o *Opaque) decode(r *reader) {
	*o = append(Opaque{}, r.b...)
	r.b = nil
}

func (o *Opaque) encode(w *writer) { w.bytes(*o) }
func (o *Opaque) check() *Error    { return fault(syscall.EINVAL, "not taken") }
func (o *Opaque) String() string   { return fmt.Sprintf("%d bytes", len(*o)) }

func (s *SAType) decode(r *reader) {
	*s = SAType(r.u8())
	r.zero(3)
	r.end()
}

func (s *SAType) encode(w *writer) {
	w.u8(uint8(*s))
	w.zero(3)
}

func (s *SAType) check() *Error {
	if _, ok := s.Proto(); !ok {
		return fault(syscall.EINVAL, "%v has no protocol", *s)
	}
	return nil
}

// A DebugMasks is the extension DEBUG: the masks in wire form, where bit 31 of the
// netlink area selects OR (1) or AND (0).
type DebugMasks klips.Debug

func (d *DebugMasks) decode(r *reader) {
	for i := range d {
		d[i] = r.u32()
	}
	r.skip(4)
	r.end()
}

func (d *DebugMasks) encode(w *writer) {
	for _, v := range d {
		w.u32(v)
	}
	w.u32(0)
}

func (d *DebugMasks) check() *Error  { return nil }
func (d *DebugMasks) String() string { return fmt.Sprintf("%08x", *d) }

// A Protocol is the extension PROTOCOL: the transport protocol of a flow.
type Protocol struct {
	Proto     uint8
	Direction uint8 // 0; some classic tools leave it uninitialised
	Flags     uint8 // 0
}

func (p *Protocol) decode(r *reader) {
	p.Proto, p.Direction, p.Flags = r.u8(), r.u8(), r.u8()
	r.skip(1)
	r.end()
}

func (p *Protocol) encode(w *writer) {
	w.u8(p.Proto)
	w.u8(p.Direction)
	w.u8(p.Flags)
	w.u8(0)
}

func (p *Protocol) check() *Error  { return nil }
func (p *Protocol) String() string { return fmt.Sprintf("%d", p.Proto) }

// A NATTType is the extension NAT_T_TYPE, a klips.NATTType.
type NATTType uint8

func (n *NATTType) decode(r *reader) {
	*n = NATTType(r.u8())
	r.skip(3)
	r.end()
}

func (n *NATTType) encode(w *writer) {
	w.u8(uint8(*n))
	w.zero(3)
}

func (n *NATTType) check() *Error {
	if t := klips.NATTType(*n); t != klips.NATTNonIKE && t != klips.NATTNonESP {
		return fault(syscall.EINVAL, "encapsulation %d", t)
	}
	return nil
}

func (n *NATTType) String() string { return fmt.Sprintf("%d", uint8(*n)) }

// A Port is one of the NAT-T port extensions. It is in host order on the wire
// too.
type Port uint16

func (p *Port) decode(r *reader) {
	*p = Port(r.u16())
	r.skip(2)
	r.end()
}

func (p *Port) encode(w *writer) {
	w.u16(uint16(*p))
	w.zero(2)
}

func (p *Port) check() *Error  { return nil }
func (p *Port) String() string { return fmt.Sprintf("%d", uint16(*p)) }

// A Device is the extension PLUMBIF: a virtual device by number, see
// [DeviceNumber].
type Device uint16

func (d *Device) decode(r *reader) {
	*d = Device(r.u16())
	r.skip(2) // classic tools send garbage
	r.end()
}

func (d *Device) encode(w *writer) {
	w.u16(uint16(*d))
	w.zero(2)
}

func (d *Device) check() *Error  { return nil }
func (d *Device) String() string { return DeviceName(uint16(*d)) }

// An SARef is the extension SAREF: the SAref of an SA and of its peer.
type SARef struct{ Me, Him uint32 }

func (s *SARef) decode(r *reader) {
	s.Me, s.Him = r.u32(), r.u32()
	r.skip(4) // classic tools send garbage
	r.end()
}

func (s *SARef) encode(w *writer) {
	w.u32(s.Me)
	w.u32(s.Him)
	w.u32(0)
}

func (s *SARef) check() *Error  { return nil }
func (s *SARef) String() string { return fmt.Sprintf("me=%d him=%d", s.Me, s.Him) }

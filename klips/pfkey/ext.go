package pfkey

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// An ext is the body of an extension, without its length and type. decode reads all
// that the wire format can express, even if a kernel would refuse it. check is the
// kernel's own check of a request's extension; nil means that it passes.
type ext interface {
	decode(*reader)
	encode(*writer)
	check() *Error
	String() string
}

// Address families on the wire.
const (
	afInet  = 2
	afInet6 = 10
)

// MaxWindow is the largest replay window that [SA] can carry, in packets.
const MaxWindow = 64

// Limits of the fields of [SA].
const (
	maxSARef = 1 << 15
	noSARef  = 0xffffffff // equivalent to 0
)

// An SA is the extension SA, RFC 2367 section 2.3.1, with KLIPS' SAref.
type SA struct {
	SPI     klips.SPI
	Replay  uint8 // window in packets, 0 to 64
	State   klips.State
	Auth    alg.Auth
	Encrypt uint8  // a alg.Enc; for SATypeComp a alg.Comp
	Flags   uint32 // klips.FlagInFlow, …
	Ref     uint32 // 0 = none
}

func (s *SA) decode(r *reader) {
	s.SPI = klips.SPI(r.be32())
	s.Replay = r.u8()
	s.State = klips.State(r.u8())
	s.Auth = alg.Auth(r.u8())
	s.Encrypt = r.u8()
	s.Flags = r.u32()
	if len(r.b) == 0 {
		return // the shorter form of RFC 2367
	}
	s.Ref = r.u32()
	r.skip(4)
	r.end()
}

func (s *SA) encode(w *writer) {
	w.be32(uint32(s.SPI))
	w.u8(s.Replay)
	w.u8(uint8(s.State))
	w.u8(uint8(s.Auth))
	w.u8(s.Encrypt)
	w.u32(s.Flags)
	w.u32(s.Ref)
	w.u32(0)
}

func (s *SA) check() *Error {
	switch {
	case s.Replay > MaxWindow:
		return fault(syscall.EINVAL, "replay window of %d packets, at most %d are possible", s.Replay, MaxWindow)
	case s.State >= klips.Dead:
		return fault(syscall.EINVAL, "state %d", s.State)
	case s.Ref >= maxSARef && s.Ref != noSARef:
		return fault(syscall.EINVAL, "SAref %d is not below %d", s.Ref, maxSARef)
	}
	return nil
}

func (s *SA) String() string {
	return fmt.Sprintf("spi=%#x replay=%d state=%d auth=%d encrypt=%d flags=%#x ref=%d",
		uint32(s.SPI), s.Replay, s.State, s.Auth, s.Encrypt, s.Flags, s.Ref)
}

// A Lifetime is one of the three lifetime extensions, RFC 2367 section 2.3.2: limits,
// or current values. KLIPS accepts only the form of 32 bytes, which has no packets.
type Lifetime struct {
	Allocations uint32
	Bytes       uint64
	AddTime     uint64 // seconds
	UseTime     uint64 // seconds
}

func (l *Lifetime) decode(r *reader) {
	l.Allocations = r.u32()
	l.Bytes = r.u64()
	l.AddTime = r.u64()
	l.UseTime = r.u64()
	r.end()
}

func (l *Lifetime) encode(w *writer) {
	w.u32(l.Allocations)
	w.u64(l.Bytes)
	w.u64(l.AddTime)
	w.u64(l.UseTime)
}

func (l *Lifetime) check() *Error { return nil }

func (l *Lifetime) String() string {
	return fmt.Sprintf("allocations=%d bytes=%d addtime=%d usetime=%d", l.Allocations, l.Bytes, l.AddTime, l.UseTime)
}

// An Address is one of the address extensions, RFC 2367 section 2.3.3. Masks of
// flows are addresses too.
type Address struct {
	Addr      netip.Addr // must be valid to be marshalled; a zone is not sent
	Port      uint16     // host order, 0 = any
	Proto     uint8      // transport protocol, 0 except in ACQUIRE and X_NAT_T_NEW_MAPPING
	PrefixLen uint8      // must be 0 in requests
}

func (a *Address) decode(r *reader) {
	a.Proto = r.u8()
	a.PrefixLen = r.u8()
	r.zero(2)
	switch af := r.u16(); {
	case r.err != nil:
	case af == afInet:
		a.Port = r.be16()
		a.Addr = netip.AddrFrom4([4]byte(r.bytes(4)))
		r.skip(8)
	case af == afInet6:
		a.Port = r.be16()
		r.skip(4) // flow label
		a.Addr = netip.AddrFrom16([16]byte(r.bytes(16)))
		r.skip(8) // scope and padding
	default:
		r.fail(syscall.EPFNOSUPPORT, "address family %d", af)
	}
	r.end()
}

func (a *Address) encode(w *writer) {
	w.u8(a.Proto)
	w.u8(a.PrefixLen)
	w.zero(2)
	switch {
	case a.Addr.Is4():
		w.u16(afInet)
		w.be16(a.Port)
		b := a.Addr.As4()
		w.bytes(b[:])
		w.zero(8)
	case a.Addr.Is6():
		w.u16(afInet6)
		w.be16(a.Port)
		w.u32(0)
		b := a.Addr.As16()
		w.bytes(b[:])
		w.zero(8)
	default:
		w.fail("no address")
	}
}

func (a *Address) check() *Error {
	if a.PrefixLen != 0 {
		return fault(syscall.EAFNOSUPPORT, "prefix length %d", a.PrefixLen)
	}
	return nil
}

func (a *Address) String() string {
	s := klips.FormatAddr(a.Addr)
	if a.Port != 0 {
		s += fmt.Sprintf(" port=%d", a.Port)
	}
	if a.Proto != 0 {
		s += fmt.Sprintf(" proto=%d", a.Proto)
	}
	return s
}

// A Key is one of the key extensions, RFC 2367 section 2.3.4. It prints and
// marshals to JSON without its bytes.
type Key struct {
	Bits uint16
	Data []byte `json:"-"` // (Bits+7)/8 bytes
}

// NewKey returns the extension with a key, which it does not copy; nil for an empty key.
func NewKey(data []byte) *Key {
	if len(data) == 0 {
		return nil
	}
	return &Key{Bits: uint16(8 * len(data)), Data: data}
}

func (k *Key) decode(r *reader) {
	k.Bits = r.u16()
	r.zero(2)
	if r.err == nil && k.Bits == 0 {
		r.fail(syscall.EINVAL, "key of 0 bits")
	}
	if n := (int(k.Bits) + 63) / 64 * 8; r.err == nil && n != len(r.b) {
		r.fail(syscall.EINVAL, "%d bytes hold a key of %d bits", len(r.b), k.Bits)
	}
	if r.err == nil {
		k.Data = append([]byte(nil), r.b[:(int(k.Bits)+7)/8]...)
		r.b = nil
	}
}

func (k *Key) encode(w *writer) {
	if k.Bits == 0 || len(k.Data) != (int(k.Bits)+7)/8 {
		w.fail("%d bytes of key where %d bits are said", len(k.Data), k.Bits)
		return
	}
	w.u16(k.Bits)
	w.zero(2)
	w.bytes(k.Data)
}

func (k *Key) check() *Error { return nil }

func (k *Key) String() string { return fmt.Sprintf("%d bits", k.Bits) }

// Format prints the key's length for every verb, so that no output of a message
// contains the bytes.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%d bits", k.Bits) }

// Clear overwrites the key's bytes with zeros.
func (k *Key) Clear() {
	if k != nil {
		clear(k.Data)
	}
}

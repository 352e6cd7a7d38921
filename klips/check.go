package klips

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips/alg"
)

// MaxWindow is the largest replay window that any stack has, in packets.
const MaxWindow = 4096

// Invalidf makes an error that is EINVAL and has the reason in words, as those of
// [SASpec.Check] do.
func Invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{syscall.EINVAL}, args...)...)
}

// CheckName refuses what KLIPS refuses whether or not the SA exists: an invalid
// protocol, SPI, destination, window size, or form of encapsulation. The error is
// EINVAL with a reason.
func (s *SASpec) CheckName() error {
	switch s.ID.Proto {
	case ProtoTun, ProtoESP, ProtoAH, ProtoComp:
	default:
		return Invalidf("%v is no protocol of SAs", s.ID.Proto)
	}
	switch {
	case s.ID.SPI < MinSPI:
		return Invalidf("SPI 0x%x is reserved", uint32(s.ID.SPI))
	case !s.ID.Dst.IsValid() || s.ID.Dst.Is4In6() || s.ID.Dst.Zone() != "":
		return Invalidf("destination %v", s.ID.Dst)
	case s.Window > MaxWindow:
		return Invalidf("replay window of %d packets, at most %d", s.Window, MaxWindow)
	case s.NATT.Type > NATTNonESP:
		return Invalidf("UDP encapsulation %d", s.NATT.Type)
	}
	return nil
}

// Check refuses algorithms, keys, windows and sequence numbers that do not fit
// together. It accepts what KLIPS accepts and ignores: algorithms and keys of a tun SA,
// and a key without authentication. The error is EINVAL, or EPROTO for an unknown
// cipher, with a reason.
func (s *SASpec) Check() error {
	if s.Comp != alg.CompNone && s.ID.Proto != ProtoComp {
		return Invalidf("compression for a %v SA", s.ID.Proto)
	}
	if err := s.checkESN(); err != nil {
		return err
	}
	if err := s.checkAlign(); err != nil {
		return err
	}
	if s.CopyTOS && s.ID.Proto != ProtoTun {
		return Invalidf("outer headers with a copied TOS for a %v SA", s.ID.Proto)
	}
	if !s.SeqFits() {
		return Invalidf("sequence numbers that a %v SA with a window of %d cannot have", s.ID.Proto, s.Window)
	}
	switch s.ID.Proto {
	case ProtoComp:
		switch {
		case s.Comp == alg.CompNone:
			return Invalidf("comp SA without a compression algorithm")
		case s.Enc != alg.EncNone || s.Auth != alg.AuthNone:
			return Invalidf("comp SA with a cipher or an authentication algorithm")
		}
	case ProtoAH:
		switch {
		case s.Enc != alg.EncNone || len(s.EncKey) != 0:
			return Invalidf("ah SA with a cipher")
		case s.Auth == alg.AuthNone:
			return Invalidf("ah SA without an authentication algorithm")
		}
		return s.checkAuth()
	case ProtoESP:
		enc, ok := s.Enc.Info()
		switch {
		case !ok:
			return fmt.Errorf("%w: cipher %d", syscall.EPROTO, s.Enc)
		case s.Enc == alg.EncNone:
			return Invalidf("esp SA without a cipher")
		case s.Enc == alg.Null && s.Auth == alg.AuthNone:
			return Invalidf("esp SA with neither a cipher nor authentication")
		case enc.AEAD && (s.Auth != alg.AuthNone || len(s.AuthKey) != 0):
			return Invalidf("combined-mode cipher with another authentication algorithm")
		}
		if err := checkKeyBits("encryption", len(s.EncKey), enc.KeyBits); err != nil {
			return err
		}
		return s.checkAuth()
	}
	return nil
}

// checkAlign refuses padding where there is no AH header over IPv4 to pad: IPv6 has
// multiples of 8 bytes anyway.
func (s *SASpec) checkAlign() error {
	if s.Align8 && (s.ID.Proto != ProtoAH || !s.ID.Dst.Is4()) {
		return Invalidf("a header padded to 8 bytes for %v", s.ID)
	}
	return nil
}

// checkESN refuses extended sequence numbers that cannot work: their high half is only
// in the ICV, and the receiver infers it from its window (RFC 4303 section 3.4.3).
func (s *SASpec) checkESN() error {
	enc, _ := s.Enc.Info()
	switch {
	case !s.ESN:
		return nil
	case s.ID.Proto != ProtoESP && s.ID.Proto != ProtoAH:
		return Invalidf("extended sequence numbers for a %v SA", s.ID.Proto)
	case s.Auth == alg.AuthNone && !enc.AEAD:
		return Invalidf("extended sequence numbers without authentication")
	case s.Window == 0:
		return Invalidf("extended sequence numbers without a replay window")
	}
	return nil
}

func (s *SASpec) checkAuth() error {
	if s.Auth == alg.AuthNone {
		return nil
	}
	info, ok := s.Auth.Info()
	if !ok {
		return Invalidf("authentication algorithm %d", s.Auth)
	}
	return checkKeyBits("authentication", len(s.AuthKey), info.KeyBits)
}

// checkKeyBits compares a key's length in bytes with the allowed lengths in bits.
func checkKeyBits(use string, n int, allowed []int) error {
	if !slices.Contains(allowed, n*8) {
		return Invalidf("%s key of %d bits", use, n*8)
	}
	return nil
}

package sadb

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/replay"
)

// invalid makes an error that is EINVAL and says why.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{syscall.EINVAL}, args...)...)
}

// checkID refuses what KLIPS refuses whether or not the SA exists.
func checkID(s *klips.SASpec) error {
	switch s.ID.Proto {
	case klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp:
	default:
		return invalid("%v is no protocol of SAs", s.ID.Proto)
	}
	switch {
	case s.ID.SPI < klips.MinSPI:
		return invalid("SPI 0x%x is reserved", uint32(s.ID.SPI))
	case !s.ID.Dst.IsValid() || s.ID.Dst.Is4In6() || s.ID.Dst.Zone() != "":
		return invalid("destination %v", s.ID.Dst)
	case s.Window > replay.MaxSize:
		return invalid("replay window of %d packets, at most %d", s.Window, replay.MaxSize)
	case s.NATT.Type > klips.NATTNonESP:
		return invalid("UDP encapsulation %d", s.NATT.Type)
	}
	return nil
}

// checkTransform refuses algorithms and keys that do not go together. What
// KLIPS takes and ignores is taken: algorithms and keys of a tun SA, and a key
// for no authentication.
func checkTransform(s *klips.SASpec) error {
	if s.Comp != alg.CompNone && s.ID.Proto != klips.ProtoComp {
		return invalid("compression for a %v SA", s.ID.Proto)
	}
	if err := checkESN(s); err != nil {
		return err
	}
	if !s.SeqFits() {
		return invalid("sequence numbers that a %v SA with a window of %d cannot have", s.ID.Proto, s.Window)
	}
	switch s.ID.Proto {
	case klips.ProtoComp:
		switch {
		case s.Comp == alg.CompNone:
			return invalid("comp SA without a compression algorithm")
		case s.Enc != alg.EncNone || s.Auth != alg.AuthNone:
			return invalid("comp SA with a cipher or an authentication algorithm")
		}
	case klips.ProtoAH:
		switch {
		case s.Enc != alg.EncNone || len(s.EncKey) != 0:
			return invalid("ah SA with a cipher")
		case s.Auth == alg.AuthNone:
			return invalid("ah SA without an authentication algorithm")
		}
		return checkAuth(s)
	case klips.ProtoESP:
		enc, ok := s.Enc.Info()
		switch {
		case !ok:
			return fmt.Errorf("%w: cipher %d", syscall.EPROTO, s.Enc)
		case s.Enc == alg.EncNone:
			return invalid("esp SA without a cipher")
		case s.Enc == alg.Null && s.Auth == alg.AuthNone:
			return invalid("esp SA with neither a cipher nor authentication")
		case enc.AEAD && (s.Auth != alg.AuthNone || len(s.AuthKey) != 0):
			return invalid("combined-mode cipher with another authentication algorithm")
		}
		if err := checkKey("encryption", len(s.EncKey), enc.KeyBits); err != nil {
			return err
		}
		return checkAuth(s)
	}
	return nil
}

// checkESN refuses extended sequence numbers where they cannot work: their high
// half is nowhere but in the ICV, and the receiver infers it from its window
// (RFC 4303 section 3.4.3).
func checkESN(s *klips.SASpec) error {
	enc, _ := s.Enc.Info()
	switch {
	case !s.ESN:
		return nil
	case s.ID.Proto != klips.ProtoESP && s.ID.Proto != klips.ProtoAH:
		return invalid("extended sequence numbers for a %v SA", s.ID.Proto)
	case s.Auth == alg.AuthNone && !enc.AEAD:
		return invalid("extended sequence numbers without authentication")
	case s.Window == 0:
		return invalid("extended sequence numbers without a replay window")
	}
	return nil
}

func checkAuth(s *klips.SASpec) error {
	if s.Auth == alg.AuthNone {
		return nil
	}
	info, ok := s.Auth.Info()
	if !ok {
		return invalid("authentication algorithm %d", s.Auth)
	}
	return checkKey("authentication", len(s.AuthKey), info.KeyBits)
}

// checkKey compares a key's length in bytes with those allowed in bits.
func checkKey(use string, n int, allowed []int) error {
	if !slices.Contains(allowed, n*8) {
		return invalid("%s key of %d bits", use, n*8)
	}
	return nil
}

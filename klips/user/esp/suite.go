package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
)

const (
	saltLen   = 4 // RFC 4106 section 4, RFC 7634 section 2
	aeadIVLen = 8
	nonceLen  = saltLen + aeadIVLen
)

// A suite is the algorithms of one SA, except a CBC mode, which differs for sealing and
// opening. With a CBC mode and with the NULL cipher aead is nil.
type suite struct {
	Size
	aead cipher.AEAD
	salt [saltLen]byte
	// onStack: the cipher leaves copies of its key on the stack.
	onStack bool
	mac     *icv.MAC // nil without authentication and in combined modes
	esn     bool
	ext     [12]byte // additional data with extended sequence numbers, see aad
}

// aad returns the additional data of a combined mode for a packet whose ESP header is
// at the start of e: SPI and the complete sequence number (RFC 4106 section 5, RFC 7634
// section 2.1). It is valid until the next call.
func (s *suite) aad(e []byte, seq uint64) []byte {
	if !s.esn {
		return e[:HeaderLen]
	}
	copy(s.ext[:4], e)
	binary.BigEndian.PutUint64(s.ext[4:], seq)
	return s.ext[:]
}

// message returns what a separate MAC authenticates of the packet whose ESP is e, with
// the place of its ICV: e without the ICV, and the high half of an extended sequence
// number (RFC 4303 section 2.2.1).
func (s *suite) message(e []byte, seq uint64) icv.Message {
	end := len(e) - s.icv
	return icv.Message{Data: e[:end], High: uint32(seq >> 32), ESN: s.esn, ICV: e[end:]}
}

// newSuite makes a suite, and adds to keys what in it has copies of the keys.
func newSuite(c *Config, keys *wipe.Parts) (*suite, error) {
	t := c.Transform
	enc, ok := t.Enc.Info()
	if !ok || t.Enc == alg.EncNone {
		return nil, fmt.Errorf("%w: encryption algorithm %d", ErrAlgorithm, t.Enc)
	}
	auth, ok := t.Auth.Info()
	if !ok {
		return nil, fmt.Errorf("%w: authentication algorithm %d", ErrAlgorithm, t.Auth)
	}
	if enc.AEAD && t.Auth != alg.AuthNone {
		return nil, fmt.Errorf("%w: a combined mode takes no authentication algorithm", ErrAlgorithm)
	}
	if t.Enc == alg.Null && t.Auth == alg.AuthNone {
		return nil, fmt.Errorf("%w: neither encryption nor authentication", ErrAlgorithm)
	}
	if !keyFits(enc.KeyBits, c.EncKey) {
		return nil, fmt.Errorf("%w: encryption algorithm %d, %d bits", ErrKey, t.Enc, len(c.EncKey)*8)
	}
	if !keyFits(auth.KeyBits, c.AuthKey) {
		return nil, fmt.Errorf("%w: authentication algorithm %d, %d bits", ErrKey, t.Auth, len(c.AuthKey)*8)
	}

	s := &suite{Size: SizeOf(t), esn: c.ESN}
	var err error
	switch t.Enc {
	case alg.Null, alg.TripleDES, alg.AES:
	case alg.AESGCM:
		key, salt := c.EncKey[:len(c.EncKey)-saltLen], c.EncKey[len(c.EncKey)-saltLen:]
		copy(s.salt[:], salt)
		var b cipher.Block
		if b, err = aes.NewCipher(key); err == nil {
			s.aead, err = cipher.NewGCM(b)
			keys.WhenGone(b) // the other one has a copy
		}
	case alg.ChaCha20Poly1305:
		key, salt := c.EncKey[:len(c.EncKey)-saltLen], c.EncKey[len(c.EncKey)-saltLen:]
		copy(s.salt[:], salt)
		s.aead, err = chacha20poly1305.New(key)
		s.onStack = true
	default:
		return nil, fmt.Errorf("%w: encryption algorithm %d", ErrAlgorithm, t.Enc)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	keys.WhenGone(s.aead)
	if t.Auth != alg.AuthNone {
		if s.mac, err = icv.New(t.Auth, c.AuthKey); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
		}
	}
	return s, nil
}

func keyFits(bits []int, key []byte) bool {
	for _, n := range bits {
		if len(key)*8 == n {
			return true
		}
	}
	return false
}

// A cbcMode is a CBC BlockMode whose IV can be set for each packet, as in package
// cipher.
type cbcMode interface {
	cipher.BlockMode
	SetIV([]byte)
}

// newTripleDES makes a CBC mode of 3DES, and adds to keys what in it has copies of the
// key.
func newTripleDES(key []byte, keys *wipe.Parts, make func(b cipher.Block, iv []byte) cipher.BlockMode) (cbcMode, error) {
	b, err := des.NewTripleDESCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	keys.WhenGone(b)
	var zero [des.BlockSize]byte
	cbc, ok := make(b, zero[:]).(cbcMode)
	if !ok {
		return nil, fmt.Errorf("%w: CBC mode takes no new IV", ErrAlgorithm)
	}
	keys.WhenGone(cbc)
	return cbc, nil
}

// Package icv computes the truncated HMACs that are the integrity check values of ESP
// and AH: RFC 2403 (MD5-96), RFC 2404 (SHA-1-96), RFC 4868 (SHA-2).
package icv

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe"
)

// ErrAlgorithm is the error for an algorithm without an ICV.
var ErrAlgorithm = errors.New("unsupported authentication algorithm")

// ErrKey is the error for a key of the wrong length.
var ErrKey = errors.New("authentication key has the wrong length")

// A MAC is one keyed authentication algorithm. One goroutine uses it; it does not
// allocate after New.
type MAC struct {
	h   hash.Hash
	n   int
	sum [sha512.Size]byte
}

// New returns the MAC of an algorithm with a key, which is copied. Errors are
// [ErrAlgorithm] (also for [alg.AuthNone]) and [ErrKey].
func New(a alg.Auth, key []byte) (*MAC, error) {
	var f func() hash.Hash
	switch a {
	case alg.MD5:
		f = md5.New
	case alg.SHA1:
		f = sha1.New
	case alg.SHA256, alg.SHA256Trunc:
		f = sha256.New
	case alg.SHA384:
		f = sha512.New384
	case alg.SHA512:
		f = sha512.New
	default:
		return nil, fmt.Errorf("%w %d", ErrAlgorithm, a)
	}
	info, _ := a.Info()
	if len(key)*8 != info.KeyBits[0] {
		return nil, fmt.Errorf("%w: %d bits, not %d", ErrKey, len(key)*8, info.KeyBits[0])
	}
	m := &MAC{h: hmac.New(f, key), n: info.ICV}
	var keys wipe.Parts
	keys.WhenGone(m.h)
	// The first Reset and Sum save the keyed states; do that now, not for the first
	// packet.
	m.Reset()
	m.Sum()
	m.Reset()
	keys.WhenGone(m.h) // they replace others
	return m, nil
}

// Size returns the length of the ICV in bytes.
func (m *MAC) Size() int { return m.n }

// Reset begins a new message.
func (m *MAC) Reset() { m.h.Reset() }

// Write adds p to the message.
func (m *MAC) Write(p []byte) { m.h.Write(p) }

// Sum returns the ICV of the message: Size bytes, valid until the next call.
func (m *MAC) Sum() []byte { return m.h.Sum(m.sum[:0])[:m.n] }

// Equal reports whether the message has this ICV, in constant time.
func (m *MAC) Equal(icv []byte) bool { return hmac.Equal(m.Sum(), icv) }

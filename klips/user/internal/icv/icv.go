// Package icv computes the truncated HMACs that are the integrity check values of ESP
// and AH: RFC 2403 (MD5-96), RFC 2404 (SHA-1-96), RFC 4868 (SHA-2).
package icv

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
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
	n    int
	pair *pair     // with the processor's instructions; nil for other algorithms
	h    hash.Hash // otherwise
	high [4]byte   // of a message, for h
	sum  [sha512.Size]byte
}

// A Message is what a MAC authenticates.
type Message struct {
	Data []byte
	// High follows Data if ESN is set: the high half of an extended sequence number (RFC
	// 4303 section 2.2.1, RFC 4302 section 2.5.1).
	High uint32
	ESN  bool
	// ICV is where Sums writes the ICV: Size bytes. They may be a part of this Data, but
	// of no other in the same call.
	ICV []byte
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
	m := &MAC{n: info.ICV}
	var keys wipe.Parts
	defer wipe.Registers()
	if m.pair = newPair(a, key); m.pair != nil {
		keys.WhenGone(m.pair)
		return m, nil
	}
	m.h = hmac.New(f, key)
	keys.WhenGone(m.h)
	// The first Reset and Sum save the keyed states; do that now, not for the first
	// packet.
	m.h.Reset()
	m.h.Sum(m.sum[:0])
	m.h.Reset()
	keys.WhenGone(m.h) // they replace others
	return m, nil
}

// Size returns the length of the ICV in bytes.
func (m *MAC) Size() int { return m.n }

// Sums computes the ICVs of messages. For several it takes less time than for one after
// the other if the processor has instructions for the algorithm.
func (m *MAC) Sums(messages []Message) {
	if m.pair != nil {
		m.pair.sums(messages)
		return
	}
	for i := range messages {
		x := &messages[i]
		m.h.Reset()
		m.h.Write(x.Data)
		if x.ESN {
			binary.BigEndian.PutUint32(m.high[:], x.High)
			m.h.Write(m.high[:])
		}
		copy(x.ICV[:m.n], m.h.Sum(m.sum[:0]))
	}
}

// Equal reports whether the message has the ICV that is in its field, in constant time.
func (m *MAC) Equal(x Message) bool { return m.EqualAhead(x, nil, Message{}) }

// An Ahead has the ICV of a message that was computed before its turn. The zero value has
// none. Whoever changes the message, or uses its memory for another one, must set it to
// zero first.
type Ahead struct {
	m    *MAC
	at   *byte // where its Data begins
	n    int   // length of Data in bytes
	high uint32
	icv  [MaxSize]byte
}

// MaxSize is the length in bytes of the longest ICV (RFC 4868 section 2.6).
const MaxSize = 32

// Foresees reports whether EqualAhead computes a second ICV.
func (m *MAC) Foresees() bool { return m.pair != nil }

// EqualAhead is Equal. If a has the ICV of x, which was next in an earlier call, it takes
// that, and a is empty then. Otherwise it computes it, and at the same time the ICV of
// next for a, which costs nothing where Foresees is true; elsewhere it does not compute
// it. Without a, or without Data in next, it is the same as Equal.
func (m *MAC) EqualAhead(x Message, a *Ahead, next Message) bool {
	if a != nil && a.m == m && a.n == len(x.Data) && a.at == &x.Data[0] && a.high == x.High {
		ok := hmac.Equal(a.icv[:m.n], x.ICV)
		*a = Ahead{}
		return ok
	}
	want := x.ICV
	x.ICV = m.sum[:m.n]
	two := [2]Message{x, next}
	if a == nil || !m.Foresees() || len(next.Data) == 0 {
		m.Sums(two[:1])
	} else {
		*a = Ahead{m: m, at: &next.Data[0], n: len(next.Data), high: next.High}
		two[1].ICV = a.icv[:m.n]
		m.Sums(two[:])
	}
	return hmac.Equal(m.sum[:m.n], want)
}

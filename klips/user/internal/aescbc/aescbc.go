// Package aescbc is AES in CBC mode (RFC 3602), in place, at the speed of the processor's
// AES instructions. These are quick only if several blocks are in work at once. The
// blocks of one message can be decrypted so, but not encrypted, because each depends on
// the one before; so several messages are encrypted at once.
//
// On other processors it is the CBC mode of package cipher, with the same results.
package aescbc

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
)

// BlockSize is the length in bytes of a block, and of an IV.
const BlockSize = aes.BlockSize

// width is how many blocks are in work at once. An AES instruction takes about four
// cycles, and two of them begin in each.
const width = 8

// maxRounds is the number of rounds with a key of 256 bits.
const maxRounds = 14

// An Encrypter encrypts with one key. It has memory of its own, which package wipe
// overwrites. Encrypt does not allocate. One goroutine uses it.
type Encrypter struct{ direction }

// A Decrypter decrypts with one key. All that holds for an [Encrypter] holds for it.
type Decrypter struct{ direction }

// A direction has what one of both needs.
type direction struct {
	own    *schedule // nil without the instructions
	serial mode      // otherwise
}

// A schedule has the round keys in the order of their use.
type schedule struct {
	keys   [maxRounds + 1][BlockSize]byte
	rounds int
}

// A mode is a CBC mode of package cipher.
type mode interface {
	cipher.BlockMode
	SetIV([]byte)
}

var errMode = errors.New("aescbc: CBC mode takes no new IV")

// NewEncrypter makes an Encrypter from a key of 16, 24 or 32 bytes, which is copied. The
// error for other lengths is that of [aes.NewCipher].
func NewEncrypter(key []byte) (*Encrypter, error) {
	if usable(key) {
		return &Encrypter{direction{own: expand(key)}}, nil
	}
	d, err := serial(key, cipher.NewCBCEncrypter)
	return &Encrypter{d}, err
}

// NewDecrypter makes a Decrypter like [NewEncrypter].
func NewDecrypter(key []byte) (*Decrypter, error) {
	if usable(key) {
		s := expand(key)
		s.invert()
		return &Decrypter{direction{own: s}}, nil
	}
	d, err := serial(key, cipher.NewCBCDecrypter)
	return &Decrypter{d}, err
}

// usable reports whether the processor's instructions are used for a key.
func usable(key []byte) bool {
	return Parallel() && (len(key) == 16 || len(key) == 24 || len(key) == 32)
}

// serial makes a direction of package cipher.
func serial(key []byte, make func(b cipher.Block, iv []byte) cipher.BlockMode) (direction, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return direction{}, err
	}
	var zero [BlockSize]byte
	m, ok := make(b, zero[:]).(mode)
	if !ok {
		return direction{}, errMode
	}
	return direction{serial: m}, nil
}

// Encrypt encrypts messages in place. Each is an IV, which stays as it is, and whole
// blocks. Messages must not overlap. Encrypt panics if a length is not a multiple of the
// block size, or if there is no IV.
func (e *Encrypter) Encrypt(messages [][]byte) {
	for _, m := range messages {
		check(m)
	}
	if e.own != nil {
		e.own.encrypt(messages)
		return
	}
	for _, m := range messages {
		e.crypt(m)
	}
}

// Decrypt decrypts a message in place: an IV, which stays as it is, and whole blocks. It
// panics in the same cases as Encrypt.
func (d *Decrypter) Decrypt(m []byte) {
	check(m)
	if d.own != nil {
		d.own.decrypt(m)
		return
	}
	d.crypt(m)
}

func check(m []byte) {
	if len(m) < BlockSize || len(m)%BlockSize != 0 {
		panic("aescbc: not an IV and whole blocks")
	}
}

func (d *direction) crypt(m []byte) {
	d.serial.SetIV(m[:BlockSize])
	d.serial.CryptBlocks(m[BlockSize:], m[BlockSize:])
}

//go:build !purego

package aescbc

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"golang.org/x/sys/cpu"
)

// Off is set by tests, and only before New: the processor's instructions are not used.
var Off bool

// Parallel reports whether the processor's AES instructions are used.
func Parallel() bool { return cpu.X86.HasAES && !Off }

// encrypt8 encrypts the next n blocks of eight messages. at are the addresses of these
// blocks. The block before them, an IV or ciphertext, is chained to the first. Messages
// may be the same one; the others must not overlap. n must not be 0.
//
//go:noescape
func encrypt8(keys *[maxRounds + 1][BlockSize]byte, rounds int, at *[width]*byte, n int)

// decrypt8 decrypts n times eight blocks at p in place. The 16 bytes before p are chained
// to the first block. n must not be 0.
//
//go:noescape
func decrypt8(keys *[maxRounds + 1][BlockSize]byte, rounds int, p *byte, n int)

// subWord applies the S-box to the bytes of a word.
func subWord(w uint32) uint32

// invMixColumns applies the transform of that name to a round key.
//
//go:noescape
func invMixColumns(key *[BlockSize]byte)

// expand computes the round keys of FIPS 197 section 5.2. Its words are little-endian.
func expand(key []byte) *schedule {
	nk := len(key) / 4
	s := &schedule{rounds: nk + 6}
	word := func(i int) []byte { return s.keys[i/4][i%4*4:][:4] }
	for i := range nk {
		copy(word(i), key[4*i:])
	}
	rcon := uint32(1)
	for i := nk; i < 4*(s.rounds+1); i++ {
		w := binary.LittleEndian.Uint32(word(i - 1))
		switch {
		case i%nk == 0:
			w = subWord(bits.RotateLeft32(w, -8)) ^ rcon
			rcon = rcon<<1 ^ rcon>>7*0x11b
		case nk > 6 && i%nk == 4:
			w = subWord(w)
		}
		binary.LittleEndian.PutUint32(word(i), w^binary.LittleEndian.Uint32(word(i-nk)))
	}
	return s
}

// invert replaces the round keys by those of the equivalent inverse cipher (FIPS 197
// section 5.3.5).
func (s *schedule) invert() {
	slices.Reverse(s.keys[:s.rounds+1])
	for i := 1; i < s.rounds; i++ {
		invMixColumns(&s.keys[i])
	}
}

// encrypt encrypts messages, each with its IV before it. As soon as one is complete,
// another one takes its place.
func (s *schedule) encrypt(messages [][]byte) {
	var lanes [width][]byte // each begins with the block to chain to
	var at [width]*byte
	for {
		n, busy := 0, 0
		for i := range lanes {
			for len(lanes[i]) <= BlockSize && len(messages) > 0 {
				lanes[i], messages = messages[0], messages[1:]
			}
			if left := len(lanes[i])/BlockSize - 1; left > 0 {
				if n == 0 || left < n {
					n = left
				}
				at[i], busy = &lanes[i][BlockSize], i
			}
		}
		if n == 0 {
			return
		}
		for i := range lanes {
			if len(lanes[i]) <= BlockSize {
				at[i] = at[busy] // does the same work, which costs nothing
			}
		}
		encrypt8(&s.keys, s.rounds, &at, n)
		for i := range lanes {
			if len(lanes[i]) > BlockSize {
				lanes[i] = lanes[i][n*BlockSize:]
			}
		}
	}
}

// decrypt decrypts a message with its IV before it.
func (s *schedule) decrypt(m []byte) {
	const group = width * BlockSize
	blocks := len(m) - BlockSize
	// The rest has less than eight blocks. They are decrypted first, because the block
	// before them is chained to them.
	if rest := blocks % group; rest > 0 {
		var b [BlockSize + group]byte
		end := m[len(m)-rest-BlockSize:]
		copy(b[:], end)
		decrypt8(&s.keys, s.rounds, &b[BlockSize], 1)
		copy(end[BlockSize:], b[BlockSize:])
	}
	if n := blocks / group; n > 0 {
		decrypt8(&s.keys, s.rounds, &m[BlockSize], n)
	}
}

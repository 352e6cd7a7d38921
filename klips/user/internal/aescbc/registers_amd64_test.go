//go:build !purego

package aescbc

import (
	"strconv"
	"testing"
	"unsafe"

	"github.com/klips-go/ipsec/klips/internal/wipe"
	"github.com/klips-go/ipsec/klips/internal/wipe/wipetest"
)

// After a message the registers of the processor have no round key.
func TestRegisters(t *testing.T) {
	if !Parallel() {
		return // package cipher's code runs
	}
	for _, bits := range []int{128, 192, 256} {
		name := strconv.Itoa(bits) + " bits, "
		c := newPair(t, []byte("a key of 256 bits, or its start.")[:bits/8])
		keys := func(s *schedule) []byte { return unsafe.Slice(&s.keys[0][0], len(s.keys)*BlockSize) }
		m := make([]byte, 11*BlockSize)

		wipe.Registers() // making them leaves round keys, which package esp overwrites
		c.Encrypt([][]byte{m})
		wipetest.Registers(t, name+"encrypted", keys(c.Encrypter.own))
		c.Decrypt(m)
		wipetest.Registers(t, name+"decrypted", keys(c.Decrypter.own))
	}
}

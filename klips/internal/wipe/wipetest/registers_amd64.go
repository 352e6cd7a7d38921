package wipetest

import (
	"encoding/binary"
	"math/bits"
	"testing"
)

// registers stores X0 to X15.
//
//go:noescape
func registers(x *[32]uint64)

// Registers fails the test if a vector register of the processor has eight bytes of a
// secret, or two words of it in the other order, as the instructions for hashes have them.
// A caller checks so what a function has left that returned just before. Places of the
// secret are considered that are a multiple of four. Zeros are no secret.
func Registers(t testing.TB, after string, secret []byte) {
	var x [32]uint64
	registers(&x)
	t.Helper()
	for ; len(secret) >= 8; secret = secret[4:] {
		s := binary.NativeEndian.Uint64(secret)
		for i := range x {
			if x[i] != 0 && (x[i] == s || x[i] == bits.RotateLeft64(s, 32)) {
				t.Errorf("%s: register X%d has a part of the key", after, i/2)
			}
		}
	}
}

package derive

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/klips-go/ipsec/klips"
)

// A Vector has the keys of an SA.
type Vector struct {
	SA         SA
	MasterSize int    // bytes of the master key, which are 0, 1, 2 and so on
	Enc, Auth  string // in hexadecimal; empty: no key
}

// Vectors returns keys that an HKDF in Python has derived, which uses only its hmac and
// hashlib.
func Vectors() []Vector {
	return []Vector{
		{SA{klips.ProtoESP, "net", "right", 0x1002, 0}, 32, "e2d685e89a5f876f1c311a4b46a4045f14e4778a7cf1cdb47944834d48a1f8cc9bd892a8", "2e577edcd065da6afd0a06b929b5b93b1d305cba"},
		{SA{klips.ProtoESP, "net", "right", 0x1002, 0}, 64, "e512137f622b8e5a2e5e7f0e74688f70d74c8a6247d3d0119fe0c7311ff49fa06f3760f6", ""},
		{SA{klips.ProtoESP, "net", "left", 0x1003, 0}, 32, "f6d565f5b6e992bcb01622e5d4438d0736f9cdd07e7a5910a551ee726fd58a4d1425c70a", ""},
		{SA{klips.ProtoESP, "net", "right", 0x11002, 1}, 32, "626d05190d353aadddc18be039b279c415778e711addb0fe01dc024f100adce6bf5e3baa", ""},
		{SA{klips.ProtoESP, "net", "right", 0x1002, 65536}, 32, "ffc1f2767f916141ad5614cfe1f5cf65", ""},
		{SA{klips.ProtoAH, "net", "left", 0x1005, 0}, 32, "", "a326824dc2172a3399664f5da0df511115fa2ca953e051f561735343a4a603b2"},
		{SA{klips.ProtoAH, "a b", "left", 0xffff0205, 0xffffffff}, 32, "", "517fbaaba721e0da677d44a422692fdb6f02f85c2a42ad05cb0cb8787e58c9fd84a78a5ea76b51034dd6a84d4fbcb83bc560aeb532ceeef724ef787aedc7de87"},
	}
}

// master returns a master key whose bytes are 0, 1, 2 and so on.
func master(size int) []byte {
	m := make([]byte, size)
	for i := range m {
		m[i] = byte(i)
	}
	return m
}

// Check derives the keys with the code that all connections use. The error is the difference.
func (v *Vector) Check() error {
	enc, auth, err := v.SA.Keys(master(v.MasterSize), len(v.Enc)/2, len(v.Auth)/2)
	if err != nil {
		return err
	}
	if hex.EncodeToString(enc) != v.Enc || hex.EncodeToString(auth) != v.Auth {
		return fmt.Errorf("the keys are %x and %x, not %s and %s", enc, auth, v.Enc, v.Auth)
	}
	return nil
}

// CheckHKDF compares the function that keys are derived with, and test case 1 of RFC 5869
// appendix A.1.
func CheckHKDF() error {
	const want = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
	secret, salt := bytes.Repeat([]byte{0x0b}, 22), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	info := "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9"
	got, err := hkdf.Key(sha256.New, secret, salt, info, len(want)/2)
	if err != nil {
		return err
	}
	if hex.EncodeToString(got) != want {
		return fmt.Errorf("the derived key is %x, not %s", got, want)
	}
	return nil
}

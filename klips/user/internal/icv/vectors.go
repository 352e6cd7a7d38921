package icv

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/vector"
)

// A Vector is a message whose HMAC is known from an RFC.
type Vector struct {
	Source string // the RFC and its case
	Key    string // in hexadecimal
	Data   string
	HMAC   string // the whole one, in hexadecimal; the ICV is its begin
	Auth   alg.Auth
}

// Vectors returns the vectors of all algorithms. The keys of some cases of RFC 2202 have
// another length than IPsec allows; these are left out.
func Vectors() []Vector {
	return []Vector{
		{"RFC 2202 MD5 1", strings.Repeat("0b", 16), "Hi There",
			"9294727a3638bb1c13f48ef8158bfc9d", alg.MD5},
		{"RFC 2202 MD5 3", strings.Repeat("aa", 16), strings.Repeat("\xdd", 50),
			"56be34521d144c88dbb8c733f0e8b3f6", alg.MD5},
		{"RFC 2202 SHA-1 1", strings.Repeat("0b", 20), "Hi There",
			"b617318655057264e28bc0b6fb378c8ef146be00", alg.SHA1},
		{"RFC 2202 SHA-1 3", strings.Repeat("aa", 20), strings.Repeat("\xdd", 50),
			"125d7342b9ac11cd91a39af48aa17b4f63f175d3", alg.SHA1},
		{"RFC 4868 AUTH256-1", strings.Repeat("0b", 32), "Hi There",
			"198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7", alg.SHA256},
		{"RFC 4868 AUTH256-1 at 96 bits", strings.Repeat("0b", 32), "Hi There",
			"198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7", alg.SHA256Trunc},
		{"RFC 4868 AUTH256-2", "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
			"what do ya want for nothing?",
			"167f928588c5cc2eef8e3093caa0e87c9ff566a14794aa61648d81621a2a40c6", alg.SHA256},
		{"RFC 4868 AUTH384-1", strings.Repeat("0b", 48), "Hi There",
			"b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4fb68dab9f1b582c2",
			alg.SHA384},
		{"RFC 4868 AUTH512-1", strings.Repeat("0b", 64), "Hi There",
			"637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b",
			alg.SHA512},
	}
}

// Check computes the ICV with the code that all packets use: alone, a second time with the
// same key, and together with another message. The error is the difference.
func (v *Vector) Check() error {
	want := vector.Hex(v.HMAC)
	m, err := New(v.Auth, vector.Hex(v.Key))
	if err != nil {
		return err
	}
	info, _ := v.Auth.Info()
	want = want[:min(info.ICV, len(want))]
	if m.Size() != len(want) {
		return fmt.Errorf("the ICV has %d bytes, not %d", m.Size(), len(want))
	}
	got, other := make([]byte, m.Size()), make([]byte, m.Size())
	message := Message{Data: []byte(v.Data), ICV: got}
	for _, l := range [...][]Message{{message}, {message}, {message, {Data: make([]byte, 100), ICV: other}}} {
		clear(got)
		m.Sums(l)
		if !bytes.Equal(got, want) {
			return fmt.Errorf("the ICV is %x, not %x", got, want)
		}
	}
	if !m.Equal(message) {
		return fmt.Errorf("the right ICV %x is refused", want)
	}
	message.ICV = append([]byte{want[0] ^ 1}, want[1:]...)
	if m.Equal(message) {
		return fmt.Errorf("the wrong ICV %x is accepted", message.ICV)
	}
	return nil
}

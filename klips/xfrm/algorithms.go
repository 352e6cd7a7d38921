package xfrm

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// setAlgorithms gives a state the algorithms and keys of a spec; ok is false
// where the kernel has no name for one.
func setAlgorithms(s *nlxfrm.State, spec *klips.SASpec) (ok bool) {
	auth, _ := spec.Auth.Info()
	enc, _ := spec.Enc.Info()
	comp, _ := spec.Comp.Info()
	if auth.Kernel != "" {
		s.Auth = &nlxfrm.AuthAlgorithm{Name: auth.Kernel, TruncateBits: icvBits(auth), Key: clone(spec.AuthKey)}
	}
	switch {
	case enc.Kernel == "":
	case enc.AEAD:
		s.AEAD = &nlxfrm.AEADAlgorithm{Name: enc.Kernel, ICVBits: icvBits(enc), Key: clone(spec.EncKey)}
	default:
		s.Crypt = &nlxfrm.Algorithm{Name: enc.Kernel, Key: clone(spec.EncKey)}
	}
	s.Comp = comp.Kernel
	return (spec.Auth == alg.AuthNone || auth.Kernel != "") &&
		(spec.Enc == alg.EncNone || enc.Kernel != "") && (spec.Comp == alg.CompNone || comp.Kernel != "")
}

func icvBits(i alg.Info) uint32 { return uint32(8 * i.ICV) }

func clone(key []byte) nlxfrm.Key { return append(nlxfrm.Key{}, key...) }

// algorithms are those of a state, and the lengths of its keys in bits.
func algorithms(s *nlxfrm.State) (t klips.Transform, authBits, encBits int) {
	if s.Auth != nil {
		authBits = 8 * len(s.Auth.Key)
		// KLIPS tells HMAC-SHA-256 of 96 bits from that of 128 by number, the kernel by
		// length.
		for _, a := range alg.Auths() {
			if i, _ := a.Info(); i.Kernel == s.Auth.Name && icvBits(i) == s.Auth.TruncateBits {
				t.Auth = a
			}
		}
	}
	name := ""
	switch {
	case s.AEAD != nil:
		name, encBits = s.AEAD.Name, 8*len(s.AEAD.Key)
	case s.Crypt != nil:
		name, encBits = s.Crypt.Name, 8*len(s.Crypt.Key)
	}
	for _, e := range alg.Encs() {
		if i, _ := e.Info(); i.Kernel == name && name != "" {
			t.Enc = e
		}
	}
	for _, c := range alg.Comps() {
		if i, _ := c.Info(); i.Kernel == s.Comp && s.Comp != "" {
			t.Comp = c
		}
	}
	return t, authBits, encBits
}

package xfrm

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// setAlgorithms gives a state the algorithms and keys of a spec; ok is false if the
// kernel has no name for one of them.
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

// algorithms returns the algorithms of a state, and the lengths of its keys in bits.
func algorithms(s *nlxfrm.State) (t klips.Transform, authBits, encBits int) {
	if s.Auth != nil {
		authBits = 8 * len(s.Auth.Key)
		t.Auth = alg.AuthOfKernel(s.Auth.Name, s.Auth.TruncateBits)
	}
	name := ""
	switch {
	case s.AEAD != nil:
		name, encBits = s.AEAD.Name, 8*len(s.AEAD.Key)
	case s.Crypt != nil:
		name, encBits = s.Crypt.Name, 8*len(s.Crypt.Key)
	}
	t.Enc, t.Comp = alg.EncOfKernel(name), alg.CompOfKernel(s.Comp)
	return t, authBits, encBits
}

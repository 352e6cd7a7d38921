package xfrm

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// The kernel's names of algorithms.

// auths are keyed hashes with the length of their ICV: KLIPS tells HMAC-SHA-256
// of 96 bits from that of 128 by number, the kernel by length.
var auths = []struct {
	alg  klips.AuthAlg
	name string
	bits uint32
}{
	{klips.AuthMD5, "hmac(md5)", 96},
	{klips.AuthSHA1, "hmac(sha1)", 96},
	{klips.AuthSHA256, "hmac(sha256)", 128},
	{klips.AuthSHA256Trunc, "hmac(sha256)", 96},
	{klips.AuthSHA384, "hmac(sha384)", 192},
	{klips.AuthSHA512, "hmac(sha512)", 256},
}

var ciphers = []struct {
	alg  klips.EncAlg
	name string
	bits uint32 // of the ICV, for combined ciphers
}{
	{klips.Enc3DES, "cbc(des3_ede)", 0},
	{klips.EncNull, "ecb(cipher_null)", 0},
	{klips.EncAES, "cbc(aes)", 0},
	{klips.EncAESGCM, "rfc4106(gcm(aes))", 128},
	{klips.EncChaCha20Poly1305, "rfc7539esp(chacha20,poly1305)", 128},
}

const deflate = "deflate"

// setAlgorithms gives a state the algorithms and keys of a spec; ok is false
// where the kernel has no name for one.
func setAlgorithms(s *nlxfrm.State, spec *klips.SASpec) (ok bool) {
	ok = true
	if spec.Auth != klips.AuthNone {
		ok = false
		for _, a := range auths {
			if a.alg == spec.Auth {
				s.Auth, ok = &nlxfrm.AuthAlgorithm{Name: a.name, TruncateBits: a.bits, Key: clone(spec.AuthKey)}, true
			}
		}
	}
	if spec.Enc != klips.EncNone {
		known := false
		for _, c := range ciphers {
			switch {
			case c.alg != spec.Enc:
			case c.bits != 0:
				s.AEAD, known = &nlxfrm.AEADAlgorithm{Name: c.name, ICVBits: c.bits, Key: clone(spec.EncKey)}, true
			default:
				s.Crypt, known = &nlxfrm.Algorithm{Name: c.name, Key: clone(spec.EncKey)}, true
			}
		}
		ok = ok && known
	}
	if spec.Comp != klips.CompNone {
		s.Comp = deflate
		ok = ok && spec.Comp == klips.CompDeflate
	}
	return ok
}

func clone(key []byte) nlxfrm.Key { return append(nlxfrm.Key{}, key...) }

// algorithms are those of a state, and the lengths of its keys in bits.
func algorithms(s *nlxfrm.State) (t klips.Transform, authBits, encBits int) {
	if s.Auth != nil {
		authBits = 8 * len(s.Auth.Key)
		for _, a := range auths {
			if a.name == s.Auth.Name && a.bits == s.Auth.TruncateBits {
				t.Auth = a.alg
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
	for _, c := range ciphers {
		if c.name == name {
			t.Enc = c.alg
		}
	}
	if s.Comp == deflate {
		t.Comp = klips.CompDeflate
	}
	return t, authBits, encBits
}

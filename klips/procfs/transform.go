package procfs

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// The algorithms whose names are not _ID and a number; no name is the beginning
// of a later one.
var (
	encNames = [...]klips.EncAlg{
		klips.Enc3DES, klips.EncNull, klips.EncAESGCM, klips.EncAES, klips.EncChaCha20Poly1305, 252, 253,
	}
	authNames = [...]klips.AuthAlg{
		klips.AuthMD5, klips.AuthSHA1, klips.AuthSHA256Trunc, klips.AuthSHA256, klips.AuthSHA384, klips.AuthSHA512,
	}
)

// parseTransform is the reverse of [klips.Transform.Name] for an SA of protocol
// p. It takes _ID and a number for any algorithm: generations know different
// names.
func parseTransform(name []byte, p klips.Proto) (klips.Transform, error) {
	var t klips.Transform
	head := (klips.Transform{}).Name(p)
	if p == klips.ProtoComp {
		head = "COMP"
	}
	rest, ok := bytes.CutPrefix(name, []byte(head))
	switch {
	case p == klips.ProtoComp:
		for _, c := range [...]struct {
			suffix string
			alg    klips.CompAlg
		}{{"_NONE", klips.CompNone}, {"_DEFLATE", klips.CompDeflate}, {"_LZS", klips.CompLZS}, {"_UNKNOWN_comp", 0xff}} {
			if r, ok := bytes.CutPrefix(rest, []byte(c.suffix)); ok {
				t.Comp, rest = c.alg, r
				break
			}
		}
	case p == klips.ProtoAH && isAuthID(rest):
	default:
		t.Enc, rest = parseEnc(rest)
	}
	t.Auth, rest = parseAuth(rest)
	if !ok || len(rest) != 0 {
		return t, fmt.Errorf("%s is not a transform of %v", quote(name), p)
	}
	return t, nil
}

// isAuthID reports whether a suffix is one unknown algorithm: that of AH, which
// has no cipher.
func isAuthID(b []byte) bool {
	return bytes.HasPrefix(b, []byte("_ID")) && bytes.Count(b, []byte("_")) == 1
}

func parseEnc(b []byte) (klips.EncAlg, []byte) {
	for _, e := range encNames {
		name := klips.Transform{Enc: e}.Name(klips.ProtoESP)[len("ESP"):]
		if rest, ok := bytes.CutPrefix(b, []byte(name)); ok {
			return e, rest
		}
	}
	id, rest := parseID(b)
	return klips.EncAlg(id), rest
}

func parseAuth(b []byte) (klips.AuthAlg, []byte) {
	for _, a := range authNames {
		i, _ := a.Info()
		if rest, ok := bytes.CutPrefix(b, []byte(i.Name)); ok {
			return a, rest
		}
	}
	id, rest := parseID(b)
	return klips.AuthAlg(id), rest
}

// parseID reads _ID and a number.
func parseID(b []byte) (uint8, []byte) {
	digits, ok := bytes.CutPrefix(b, []byte("_ID"))
	if !ok {
		return 0, b
	}
	n := 0
	for n < len(digits) && '0' <= digits[n] && digits[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(digits[:n]), 10, 8)
	if err != nil {
		return 0, b
	}
	return uint8(v), digits[n:]
}

package procfs

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// parseTransform is the reverse of [klips.Transform.Name] for an SA of protocol p. It
// accepts _ID and a number for any algorithm, since generations know different names.
func parseTransform(name []byte, p klips.Proto) (klips.Transform, error) {
	var t klips.Transform
	head := (klips.Transform{}).Name(p)
	if p == klips.ProtoComp {
		head = "COMP"
	}
	rest, ok := bytes.CutPrefix(name, []byte(head))
	switch {
	case p == klips.ProtoComp:
		t.Comp, rest = parseComp(rest)
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

// isAuthID reports whether a suffix is a single unknown algorithm: that of AH, which
// has no cipher.
func isAuthID(b []byte) bool {
	return bytes.HasPrefix(b, []byte("_ID")) && bytes.Count(b, []byte("_")) == 1
}

// longest returns the algorithm with the longest name that b begins with, and the rest.
func longest[T any](b []byte, algs []T, name func(T) string) (found T, rest []byte, ok bool) {
	rest = b
	for _, a := range algs {
		if r, is := bytes.CutPrefix(b, []byte(name(a))); is && len(r) < len(rest) {
			found, rest, ok = a, r, true
		}
	}
	return found, rest, ok
}

func parseEnc(b []byte) (alg.Enc, []byte) {
	// This program knows only the names of the last two.
	e, rest, ok := longest(b, append(alg.Encs(), 252, 253), func(e alg.Enc) string {
		return klips.Transform{Enc: e}.Name(klips.ProtoESP)[len("ESP"):]
	})
	if ok {
		return e, rest
	}
	id, rest := parseID(b)
	return alg.Enc(id), rest
}

func parseAuth(b []byte) (alg.Auth, []byte) {
	a, rest, ok := longest(b, alg.Auths(), func(a alg.Auth) string {
		i, _ := a.Info()
		return i.Listing
	})
	if ok {
		return a, rest
	}
	id, rest := parseID(b)
	return alg.Auth(id), rest
}

// unknownComp is a compression with a number that is not listed.
const unknownComp alg.Comp = 0xff

func parseComp(b []byte) (alg.Comp, []byte) {
	c, rest, _ := longest(b, append(alg.Comps(), alg.CompNone, unknownComp), func(c alg.Comp) string {
		return klips.Transform{Comp: c}.Name(klips.ProtoComp)[len("COMP"):]
	})
	return c, rest
}

// parseID parses _ID and a number.
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

package syntax

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// CheckKeys checks that the protocol, the algorithms and the keys of an SA fit
// together. If not, its error describes the keys that the transform requires: lengths
// of keys are in bytes, those of algorithms in bits with parity and salt. It ignores
// the SPI and the destination. Errors are *[Error] and contain no part of a key.
func CheckKeys(id klips.SAID, t klips.Transform, authKey, encKey []byte) error {
	auth, authKnown := t.Auth.Info()
	enc, encKnown := t.Enc.Info()
	switch {
	case !authKnown:
		return syntaxf("unknown authentication algorithm %d", t.Auth)
	case !encKnown:
		return syntaxf("unknown encryption algorithm %d", t.Enc)
	}
	switch id.Proto {
	case klips.ProtoTun, klips.ProtoComp:
		if t.Auth != alg.AuthNone || t.Enc != alg.EncNone {
			return syntaxf("%s SAs have no authentication and no encryption", id.Proto)
		}
	case klips.ProtoAH:
		switch {
		case t.Enc != alg.EncNone:
			return syntaxf("ah SAs do not encrypt")
		case t.Auth == alg.AuthNone:
			return syntaxf("ah SAs need an authentication algorithm")
		}
	case klips.ProtoESP:
		switch {
		case t.Enc == alg.EncNone:
			return syntaxf("esp SAs need an encryption algorithm, which may be null")
		case enc.AEAD && t.Auth != alg.AuthNone:
			return syntaxf("%s authenticates by itself, it takes no other authentication", encWord(t.Enc))
		case t.Enc == alg.Null && t.Auth == alg.AuthNone:
			return syntaxf("null encryption without authentication protects nothing")
		}
	default:
		return syntaxf("%s is no protocol that SAs have", id.Proto)
	}
	if err := checkKey("encryption", encWord(t.Enc), enc, encKey); err != nil {
		return err
	}
	return checkKey("authentication", authWord(t.Auth), auth, authKey)
}

// checkKey compares one key with its algorithm's requirements.
func checkKey(use, name string, info alg.Info, key []byte) error {
	for _, bits := range info.KeyBits {
		if len(key)*8 == bits {
			return nil
		}
	}
	if name == "none" || info.KeyBits[0] == 0 {
		return kindf(KeyLength, "an %s key of %s was given, but there is no %s that takes one", use, bytesText(len(key)), use)
	}
	given := "none was given"
	if len(key) > 0 {
		given = "the one given has " + bytesText(len(key))
	}
	wants := make([]string, len(info.KeyBits))
	for i, bits := range info.KeyBits {
		wants[i] = strconv.Itoa(bits / 8)
	}
	salt := ""
	if info.AEAD {
		salt = ", the last 4 of them salt"
	}
	return kindf(KeyLength, "%s wants an %s key of %s bytes%s; %s", name, use, orList(wants), salt, given)
}

// KeySizes returns the lengths of the keys that a transform takes, in bytes and with the
// salt of combined modes; 0: it takes none. bits is the length of encryption key that
// [ParseESP] has returned; if it is 0 and several are allowed, enc is the longest.
func KeySizes(t klips.Transform, bits int) (enc, auth int) {
	longest := func(info alg.Info, ok bool) int {
		if !ok {
			return 0
		}
		return slices.Max(info.KeyBits) / 8
	}
	if enc = bits / 8; enc == 0 {
		enc = longest(t.Enc.Info())
	}
	return enc, longest(t.Auth.Info())
}

// keyHelp describes a transform's keys; bits is the length of encryption key in its
// name, 0 for any that the cipher allows.
func keyHelp(t klips.Transform, bits int) string {
	var parts []string
	if info, _ := t.Enc.Info(); t.Enc != alg.EncNone && info.KeyBits[0] != 0 {
		list := info.KeyBits
		if bits != 0 {
			list = []int{bits}
		}
		s := orList(texts(list, 0)) + "-bit encryption key"
		if info.AEAD {
			s += fmt.Sprintf(" (%s bits and 32 bits of salt)", orList(texts(list, alg.SaltBits)))
		}
		parts = append(parts, s)
	}
	if info, _ := t.Auth.Info(); t.Auth != alg.AuthNone {
		parts = append(parts, strconv.Itoa(info.KeyBits[0])+"-bit authentication key")
	}
	if parts == nil {
		return "no key"
	}
	return strings.Join(parts, ", ")
}

func orList(words []string) string { return joinLast(words, " or ") }

func andList(words []string) string { return joinLast(words, " and ") }

func joinLast(words []string, last string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + last + words[n-1]
	}
	return words[0]
}

// texts formats numbers, each minus less.
func texts(list []int, less int) []string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(n - less)
	}
	return words
}

func bytesText(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return strconv.Itoa(n) + " bytes"
}

// encWord and authWord return names of algorithms for messages.
func encWord(e alg.Enc) string {
	if _, ok := e.Info(); ok {
		return e.String()
	}
	return "cipher " + e.String()
}

func authWord(a alg.Auth) string {
	if _, ok := a.Info(); ok {
		return a.String()
	}
	return "authentication " + a.String()
}

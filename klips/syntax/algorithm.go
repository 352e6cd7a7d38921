package syntax

import (
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// An AlgName is one name of an algorithm and a description of its keys, for usage texts
// and pages.
type AlgName struct {
	Name    string // as the parsers here accept it
	KeyHelp string // "128-bit encryption key, 160-bit authentication key"; "no key"
}

// ParseESP parses the name of an ESP transform. It also returns the length of
// encryption key in the name, in bits and with the salt of combined modes; 0 means any
// length that the cipher allows.
//
// Names are a cipher, optionally with its key length in bits, and an authentication:
// 3des-md5-96, 3des-sha1, aes128-sha2_256, aes-256-sha1, null-md5. "-none", or plain
// 3des, means no authentication. HMACs have the ICV length of their RFC; sha2_256-96
// has the shorter one of old Linux kernels. Combined modes have no separate
// authentication: aes128-gcm (also aes_gcm128, aes128gcm16, aes_gcm_c-128-null),
// aes-gcm, chacha20-poly1305. Underscores are equivalent to hyphens, and capitals to
// small letters; but names with -96 must be in lower case, as in KLIPS' tools. Errors
// are *[Error].
func ParseESP(name string) (klips.Transform, int, error) {
	s := strings.ToLower(name)
	if s != name && strings.HasSuffix(s, "-96") {
		// A text that is not a name is not repeated: it may be a key.
		if _, _, err := ParseESP(s); err != nil {
			return klips.Transform{}, 0, err
		}
		return klips.Transform{}, 0, syntaxf("write it in lower case: %s", s)
	}
	s = strings.ReplaceAll(s, "_", "-")
	if t, bits, ok := parseAEAD(s); ok {
		return t, bits, nil
	}
	enc, bits, authText, err := cutCipher(s)
	if err != nil {
		return klips.Transform{}, 0, err
	}
	t := klips.Transform{Enc: enc}
	switch authText {
	case "":
		if enc == alg.TripleDES {
			return t, bits, nil
		}
		return klips.Transform{}, 0, syntaxf("no authentication named; write %s-sha2_256, or %s-none to do without", name, name)
	case "none":
		if enc == alg.Null {
			return klips.Transform{}, 0, syntaxf("null without authentication protects nothing; write null-sha2_256")
		}
		return t, bits, nil
	}
	auth, ok := authByName(authText)
	if !ok {
		return klips.Transform{}, 0, kindf(Word, "unknown authentication after the cipher; there are %s and none", strings.Join(authWords(), ", "))
	}
	t.Auth = auth
	return t, bits, nil
}

// authWords returns the authentications that follow a cipher, for usage texts.
func authWords() (words []string) {
	for _, a := range alg.Auths() {
		r, _ := a.Info()
		words = append(words, strings.Replace(r.Names[0], "sha2-", "sha2_", 1))
	}
	return words
}

// cutCipher splits the cipher and its key length from a lower-case name with hyphens
// only; rest is the text after the next hyphen.
func cutCipher(s string) (enc alg.Enc, bits int, rest string, err error) {
	enc, name := cipherBefore(s)
	if enc == alg.EncNone {
		return 0, 0, "", errCipher()
	}
	info, _ := enc.Info()
	rest = s[len(name):]
	number, after, hasNumber := cutBits(rest)
	switch {
	case hasNumber && len(info.KeyBits) == 1:
		return 0, 0, "", syntaxf("%s takes no key length", info.Word)
	case hasNumber:
		if bits, err = strconv.Atoi(number); err != nil || number != "0" && (number[0] == '0' || !slices.Contains(info.KeyBits, bits)) {
			return 0, 0, "", syntaxf("%s keys have %s bits", info.Word, orList(texts(info.KeyBits, 0)))
		}
		rest = after
	}
	if rest == "" {
		return enc, bits, "", nil
	}
	auth, ok := strings.CutPrefix(rest, "-")
	if !ok {
		return 0, 0, "", errCipher()
	}
	if auth == "" {
		return 0, 0, "", syntaxf("nothing after the last hyphen")
	}
	return enc, bits, auth, nil
}

// cipherBefore returns the cipher, not a combined mode, that a name begins with, and
// which of its names that is; the longest counts.
func cipherBefore(s string) (enc alg.Enc, name string) {
	for _, e := range alg.Encs() {
		info, _ := e.Info()
		for _, n := range info.Names {
			if !info.AEAD && strings.HasPrefix(s, n) && len(n) > len(name) {
				enc, name = e, n
			}
		}
	}
	return enc, name
}

func errCipher() error {
	return kindf(Word, "unknown cipher; there are %s", andList(append(cipherWords(false), cipherWords(true)...)))
}

// cipherWords returns the ciphers, or the combined modes, for usage texts.
func cipherWords(aead bool) (words []string) {
	for _, e := range alg.Encs() {
		info, _ := e.Info()
		switch {
		case info.AEAD != aead:
		case len(info.KeyBits) == 1:
			words = append(words, info.Names[0])
		default:
			for _, bits := range info.KeyBits {
				words = append(words, withBits(info, bits))
			}
		}
	}
	return words
}

// withBits returns the name of a cipher with a key length, without salt: aes128,
// aes128-gcm.
func withBits(info alg.Info, bits int) string {
	if info.AEAD {
		bits -= alg.SaltBits
	}
	head, tail, mode := strings.Cut(info.Names[0], "-")
	head += strconv.Itoa(bits)
	if mode {
		head += "-" + tail
	}
	return head
}

// cutBits splits off a leading key length, optionally after a hyphen.
func cutBits(s string) (number, rest string, ok bool) {
	d := strings.TrimPrefix(s, "-")
	n := 0
	for n < len(d) && '0' <= d[n] && d[n] <= '9' {
		n++
	}
	return d[:n], d[n:], n > 0
}

// parseAEAD parses the names of combined modes, in lower case with hyphens only. A key
// length, without salt, follows the name or its first part: aes-gcm-128, aes128-gcm.
// Hyphens between the parts are optional.
func parseAEAD(s string) (klips.Transform, int, bool) {
	s = strings.TrimSuffix(strings.TrimSuffix(s, "-null"), "-none")
	compact := strings.ReplaceAll(s, "-", "")
	for _, e := range alg.Encs() {
		info, _ := e.Info()
		if !info.AEAD {
			continue
		}
		for _, name := range info.Names {
			parts := strings.Split(name, "-")
			whole := strings.Join(parts, "")
			t := klips.Transform{Enc: e}
			if !cutAt(s, parts, info.KeyBits) {
				continue
			}
			if compact == whole {
				if len(info.KeyBits) == 1 {
					return t, info.KeyBits[0], true
				}
				return t, 0, true
			}
			for _, bits := range info.KeyBits {
				number := strconv.Itoa(bits - alg.SaltBits)
				if len(info.KeyBits) > 1 && (compact == whole+number || compact == parts[0]+number+whole[len(parts[0]):]) {
					return t, bits, true
				}
			}
		}
	}
	return klips.Transform{}, 0, false
}

// cutAt reports whether each hyphen of a name is before a part of it or a key length.
func cutAt(s string, parts []string, keyBits []int) bool {
	for piece := range strings.SplitSeq(s, "-") {
		begins := func(p string) bool { return strings.HasPrefix(piece, p) }
		isLength := func(bits int) bool { return piece == strconv.Itoa(bits-alg.SaltBits) }
		if !slices.ContainsFunc(parts, begins) && !slices.ContainsFunc(keyBits, isLength) {
			return false
		}
	}
	return true
}

// authByName parses an authentication in lower case with hyphens only.
func authByName(s string) (alg.Auth, bool) { return alg.AuthNamed(strings.TrimPrefix(s, "hmac-")) }

// ParseAH parses the name of an AH authentication: hmac-md5-96, hmac-sha1-96,
// hmac-sha2-256-128, hmac-sha2-256-96, hmac-sha2-384-192, hmac-sha2-512-256, or shorter
// ones such as sha1 and sha2_256. Errors are *[Error].
func ParseAH(name string) (alg.Auth, error) {
	if a, ok := authByName(strings.ReplaceAll(name, "_", "-")); ok {
		return a, nil
	}
	if l := strings.ToLower(name); l != name {
		if _, err := ParseAH(l); err == nil {
			return alg.AuthNone, syntaxf("write it in lower case: %s", l)
		}
	}
	return alg.AuthNone, kindf(Word, "unknown authentication algorithm; there are %s", joinNames(AHNames()))
}

// ParseComp parses the name of a compression algorithm: deflate or lzs. Errors are
// *[Error].
func ParseComp(name string) (alg.Comp, error) {
	if c, ok := alg.CompNamed(name); ok {
		return c, nil
	}
	return alg.CompNone, kindf(Word, "unknown compression algorithm; there are %s", joinNames(CompNames()))
}

func joinNames(list []AlgName) string {
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = a.Name
	}
	return strings.Join(names, ", ")
}

// ESPNames lists the usual names of ESP transforms.
func ESPNames() []AlgName {
	list := []AlgName{
		espName("3des-md5-96"), espName("3des-sha1-96"), espName("3des"),
	}
	for _, cipher := range cipherWords(false) {
		if cipher == "3des" {
			continue
		}
		for _, auth := range authWords() {
			list = append(list, espName(cipher+"-"+auth))
		}
	}
	for _, mode := range cipherWords(true) {
		list = append(list, espName(mode))
	}
	return list
}

// ESPName returns the name of an ESP transform with an encryption key of a length in bits, as
// [ParseESP] accepts it; ok is false if it has none.
func ESPName(t klips.Transform, keyBits int) (name string, ok bool) {
	names := cipherWords(true)
	for _, cipher := range cipherWords(false) {
		for _, auth := range append(authWords(), "none") {
			names = append(names, cipher+"-"+auth)
		}
	}
	for _, name := range names {
		if got, bits, err := ParseESP(name); err == nil && got == t && (bits == 0 || bits == keyBits) {
			return name, true
		}
	}
	return "", false
}

// AHName returns the name of an AH authentication, as [ParseAH] accepts it; ok is false if it
// has none.
func AHName(a alg.Auth) (name string, ok bool) {
	for _, n := range AHNames() {
		if got, err := ParseAH(n.Name); err == nil && got == a {
			return n.Name, true
		}
	}
	return "", false
}

func espName(name string) AlgName {
	t, bits, err := ParseESP(name)
	if err != nil {
		return AlgName{Name: name, KeyHelp: err.Error()}
	}
	return AlgName{Name: name, KeyHelp: keyHelp(t, bits)}
}

// AHNames lists the names of AH authentications.
func AHNames() (list []AlgName) {
	for _, a := range alg.Auths() {
		info, _ := a.Info()
		list = append(list, AlgName{info.Usage, keyHelp(klips.Transform{Auth: a}, 0)})
	}
	return list
}

// CompNames lists the names of compression algorithms.
func CompNames() (list []AlgName) {
	for _, c := range alg.Comps() {
		list = append(list, AlgName{c.String(), "no key"})
	}
	return list
}

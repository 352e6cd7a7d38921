package klips

import "strings"

// An AlgName is one name of an algorithm and the keys it takes, for usage texts
// and pages.
type AlgName struct {
	Name    string // as the parsers here read it
	KeyHelp string // "128-bit encryption key, 160-bit authentication key"; "no key"
}

// ParseESP reads the name of an ESP transform and returns it with the length of
// encryption key that the name demands, in bits and with the salt of combined
// modes; 0 stands for whatever the cipher allows.
//
// Names are a cipher, perhaps with its key length in bits, and an
// authentication: 3des-md5-96, 3des-sha1, aes128-sha2_256, aes-256-sha1,
// null-md5; "-none" is no authentication, as is plain 3des. HMACs have the ICV
// length of their RFC; sha2_256-96 is the shorter one of old Linux kernels.
// Combined modes stand alone: aes128-gcm (also aes_gcm128, aes128gcm16,
// aes_gcm_c-128-null), aes-gcm, chacha20-poly1305. Underscores and hyphens are
// alike, and so are capitals, but for names with -96, which KLIPS' tools have
// always wanted in lower case. Errors are *[SyntaxError].
func ParseESP(name string) (Transform, int, error) {
	s := strings.ToLower(name)
	if s != name && strings.HasSuffix(s, "-96") {
		// Whatever is no name is not repeated: it can be anything.
		if _, _, err := ParseESP(s); err != nil {
			return Transform{}, 0, err
		}
		return Transform{}, 0, syntaxf("write it in lower case: %s", s)
	}
	s = strings.ReplaceAll(s, "_", "-")
	if t, bits, ok := parseAEAD(s); ok {
		return t, bits, nil
	}
	enc, bits, authText, err := cutCipher(s)
	if err != nil {
		return Transform{}, 0, err
	}
	t := Transform{Enc: enc}
	switch authText {
	case "":
		if enc == Enc3DES {
			return t, bits, nil
		}
		return Transform{}, 0, syntaxf("no authentication named; write %s-sha2_256, or %s-none to do without", name, name)
	case "none":
		if enc == EncNull {
			return Transform{}, 0, syntaxf("null without authentication protects nothing; write null-sha2_256")
		}
		return t, bits, nil
	}
	auth, ok := authByName(authText)
	if !ok {
		return Transform{}, 0, syntaxf("unknown authentication after the cipher; there are %s and none", authList)
	}
	t.Auth = auth
	return t, bits, nil
}

// authList names the authentications in messages.
const authList = "md5, sha1, sha2_256, sha2_256-96, sha2_384, sha2_512"

// cutCipher takes the cipher and its key length off the front of a lower-case
// name with hyphens only; rest is what follows the hyphen after it.
func cutCipher(s string) (enc EncAlg, bits int, rest string, err error) {
	var cipher string
	switch {
	case strings.HasPrefix(s, "3des"):
		enc, cipher, rest = Enc3DES, "3des", s[4:]
	case strings.HasPrefix(s, "null"):
		enc, cipher, rest = EncNull, "null", s[4:]
	case strings.HasPrefix(s, "aes"):
		enc, cipher, rest = EncAES, "aes", strings.TrimPrefix(s[3:], "-cbc")
	default:
		return 0, 0, "", errCipher()
	}
	number, after, hasNumber := cutBits(rest)
	switch {
	case hasNumber && enc != EncAES:
		return 0, 0, "", syntaxf("%s takes no key length", cipher)
	case hasNumber:
		switch number {
		case "0":
		case "128":
			bits = 128
		case "192":
			bits = 192
		case "256":
			bits = 256
		default:
			return 0, 0, "", syntaxf("aes keys have 128, 192 or 256 bits")
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

func errCipher() error {
	return syntaxf("unknown cipher; there are 3des, aes128, aes192, aes256, null, aes128-gcm, aes192-gcm, aes256-gcm and chacha20-poly1305")
}

// cutBits takes a key length, perhaps with a hyphen before it, off the front.
func cutBits(s string) (number, rest string, ok bool) {
	d := strings.TrimPrefix(s, "-")
	n := 0
	for n < len(d) && '0' <= d[n] && d[n] <= '9' {
		n++
	}
	return d[:n], d[n:], n > 0
}

// parseAEAD reads the names of combined modes, in lower case with hyphens only.
func parseAEAD(s string) (Transform, int, bool) {
	s = strings.TrimSuffix(strings.TrimSuffix(s, "-null"), "-none")
	for part := range strings.SplitSeq(s, "-") {
		switch part {
		case "c", "c128", "c192", "c256", "16", "128", "192", "256", "poly1305":
		default:
			if !strings.HasPrefix(part, "aes") && !strings.HasPrefix(part, "gcm") && !strings.HasPrefix(part, "chacha20") {
				return Transform{}, 0, false
			}
		}
	}
	s = strings.ReplaceAll(s, "-", "")
	switch s {
	case "chacha20poly1305":
		return Transform{Enc: EncChaCha20Poly1305}, 288, true
	case "aesgcm", "aesgcm16", "aesgcmc":
		return Transform{Enc: EncAESGCM}, 0, true
	}
	size := ""
	if rest, ok := strings.CutPrefix(s, "aesgcm"); ok {
		size = strings.TrimPrefix(rest, "c") // KLIPS' letter for the 16-byte ICV
		if len(size) == 5 {
			size = strings.TrimPrefix(size, "16")
		}
	} else if rest, ok := strings.CutPrefix(s, "aes"); ok && len(rest) > 3 {
		if tail := rest[3:]; tail == "gcm" || tail == "gcm16" || tail == "gcmc" {
			size = rest[:3]
		}
	}
	const salt = 32
	switch size {
	case "128":
		return Transform{Enc: EncAESGCM}, 128 + salt, true
	case "192":
		return Transform{Enc: EncAESGCM}, 192 + salt, true
	case "256":
		return Transform{Enc: EncAESGCM}, 256 + salt, true
	}
	return Transform{}, 0, false
}

// authByName reads an authentication in lower case with hyphens only.
func authByName(s string) (AuthAlg, bool) {
	switch strings.TrimPrefix(s, "hmac-") {
	case "md5", "md5-96":
		return AuthMD5, true
	case "sha1", "sha1-96", "sha-96", "sha":
		return AuthSHA1, true
	case "sha2", "sha2-256", "sha256", "sha2-256-128", "sha256-128":
		return AuthSHA256, true
	case "sha2-256-96", "sha256-96":
		return AuthSHA256Trunc, true
	case "sha2-384", "sha384", "sha2-384-192", "sha384-192":
		return AuthSHA384, true
	case "sha2-512", "sha512", "sha2-512-256", "sha512-256":
		return AuthSHA512, true
	}
	return AuthNone, false
}

// ParseAH reads the name of an AH authentication: hmac-md5-96, hmac-sha1-96,
// hmac-sha2-256-128, hmac-sha2-256-96, hmac-sha2-384-192, hmac-sha2-512-256, or
// shorter ones such as sha1 and sha2_256. Errors are *[SyntaxError].
func ParseAH(name string) (AuthAlg, error) {
	if a, ok := authByName(strings.ReplaceAll(name, "_", "-")); ok {
		return a, nil
	}
	if l := strings.ToLower(name); l != name {
		if _, err := ParseAH(l); err == nil {
			return AuthNone, syntaxf("write it in lower case: %s", l)
		}
	}
	return AuthNone, syntaxf("unknown authentication algorithm; there are %s", joinNames(AHNames()))
}

// ParseComp reads the name of a compression algorithm: deflate or lzs. Errors
// are *[SyntaxError].
func ParseComp(name string) (CompAlg, error) {
	switch name {
	case "deflate":
		return CompDeflate, nil
	case "lzs":
		return CompLZS, nil
	}
	return CompNone, syntaxf("unknown compression algorithm; there are %s", joinNames(CompNames()))
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
	auths := [...]string{"md5", "sha1", "sha2_256", "sha2_256-96", "sha2_384", "sha2_512"}
	for _, cipher := range [...]string{"aes128", "aes192", "aes256", "null"} {
		for _, auth := range auths {
			list = append(list, espName(cipher+"-"+auth))
		}
	}
	return append(list,
		espName("aes128-gcm"), espName("aes192-gcm"), espName("aes256-gcm"), espName("chacha20-poly1305"))
}

func espName(name string) AlgName {
	t, bits, err := ParseESP(name)
	if err != nil {
		return AlgName{Name: name, KeyHelp: err.Error()}
	}
	return AlgName{Name: name, KeyHelp: keyHelp(t, bits)}
}

// AHNames lists the names of AH authentications.
func AHNames() []AlgName {
	return []AlgName{
		{"hmac-md5-96", keyHelp(Transform{Auth: AuthMD5}, 0)},
		{"hmac-sha1-96", keyHelp(Transform{Auth: AuthSHA1}, 0)},
		{"hmac-sha2-256-128", keyHelp(Transform{Auth: AuthSHA256}, 0)},
		{"hmac-sha2-256-96", keyHelp(Transform{Auth: AuthSHA256Trunc}, 0)},
		{"hmac-sha2-384-192", keyHelp(Transform{Auth: AuthSHA384}, 0)},
		{"hmac-sha2-512-256", keyHelp(Transform{Auth: AuthSHA512}, 0)},
	}
}

// CompNames lists the names of compression algorithms.
func CompNames() []AlgName {
	return []AlgName{{"deflate", "no key"}, {"lzs", "no key"}}
}

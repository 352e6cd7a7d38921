package syntax

import "encoding/base64"

// ParseKey parses binary data such as a key: 0x and hex bytes, optionally separated by
// single underscores; 0s and base64 (RFC 4648 section 4, padded, no blanks); or 0t and
// literal text. The prefix letter may be in either case. Errors are *[Error]. They
// contain the position of the fault, but no part of the text, so that no key gets into
// a log. The caller owns the result.
func ParseKey(text string) ([]byte, error) {
	if len(text) < 2 || text[0] != '0' {
		return nil, syntaxf("must begin with 0x (hex), 0s (base64) or 0t (text)")
	}
	data := text[2:]
	var out []byte
	var err error
	switch text[1] {
	case 'x', 'X':
		out, err = parseHexBytes(data)
	case 's', 'S':
		out, err = parseBase64(data)
	case 't', 'T':
		out = []byte(data)
	default:
		return nil, syntaxf("must begin with 0x (hex), 0s (base64) or 0t (text)")
	}
	if err != nil {
		clear(out)
		return nil, err
	}
	if len(out) == 0 {
		return nil, syntaxf("nothing after the 0%c", text[1])
	}
	return out, nil
}

// prefixLen is the length of 0x, 0s or 0t: positions in messages count from 1
// at the start of the whole text.
const prefixLen = 2

func parseHexBytes(s string) ([]byte, error) {
	out := make([]byte, 0, len(s)/2)
	for i := 0; i < len(s); {
		if s[i] == '_' {
			switch {
			case i == 0 || s[i-1] == '_':
				return out, syntaxf("underscore at character %d does not follow a byte", i+1+prefixLen)
			case i == len(s)-1:
				return out, syntaxf("ends with an underscore, perhaps cut off")
			}
			i++
			continue
		}
		hi, ok := digit(s[i])
		if !ok {
			return out, syntaxf("character %d is no hex digit", i+1+prefixLen)
		}
		if i+1 == len(s) {
			return out, syntaxf("odd number of hex digits, perhaps cut off")
		}
		lo, ok := digit(s[i+1])
		if !ok {
			return out, syntaxf("character %d is no hex digit", i+2+prefixLen)
		}
		out = append(out, byte(hi<<4|lo))
		i += 2
	}
	return out, nil
}

func parseBase64(s string) ([]byte, error) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !base64Digit(c) && (c != '=' || i < len(s)-2) {
			return nil, syntaxf("character %d is no base64 digit", i+1+prefixLen)
		}
	}
	if len(s)%4 != 0 {
		return nil, syntaxf("base64 that is no multiple of four characters, perhaps cut off")
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(out, []byte(s))
	if err != nil {
		return out, syntaxf("wrong padding at the end of base64")
	}
	return out[:n], nil
}

func base64Digit(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '+' || c == '/'
}

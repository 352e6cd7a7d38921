package syntax

import "strconv"

// ParseNumber parses an unsigned number up to max. Base is 8, 10 or 16, or 0 if the
// text determines it: 0x or 0X and hex digits, 0 and octal digits, else decimal digits.
// There are no signs, blanks or separators, and at most 16 hex digits. Errors are
// *[Error].
func ParseNumber(text string, base int, max uint64) (uint64, error) {
	if text == "" {
		return 0, errEmpty()
	}
	digits := text
	if base == 0 {
		switch {
		case len(text) > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'):
			base, digits = 16, text[2:]
		case len(text) > 1 && text[0] == '0':
			base, digits = 8, text[1:]
		default:
			base = 10
		}
	}
	if base == 16 && len(digits) > 16 {
		return 0, kindf(Range, "more than 16 hex digits")
	}
	const limit = ^uint64(0)
	var v uint64
	over := false
	for i := 0; i < len(digits); i++ {
		d, ok := digit(digits[i])
		if !ok || d >= uint64(base) {
			return 0, kindf(Digit, "%s is no %s digit", quoteByte(digits, i), baseName(base))
		}
		if v > (limit-d)/uint64(base) {
			over = true // continue: a bad digit later is the better message
			continue
		}
		v = v*uint64(base) + d
	}
	if over || v > max {
		return 0, kindf(Range, "too large, at most %s", limitText(max, base))
	}
	return v, nil
}

func digit(c byte) (uint64, bool) {
	switch {
	case '0' <= c && c <= '9':
		return uint64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return uint64(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return uint64(c-'A') + 10, true
	}
	return 0, false
}

func baseName(base int) string {
	switch base {
	case 8:
		return "octal"
	case 16:
		return "hex"
	}
	return "decimal"
}

func limitText(max uint64, base int) string {
	if base == 16 {
		return "0x" + strconv.FormatUint(max, 16)
	}
	return strconv.FormatUint(max, 10)
}

// quoteByte quotes the character of s that begins at i.
func quoteByte(s string, i int) string {
	for _, r := range s[i:] {
		return strconv.QuoteRune(r)
	}
	return "''"
}

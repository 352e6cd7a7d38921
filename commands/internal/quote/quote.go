// Package quote decides how text from outside appears in a message: what is escaped, and
// what is hidden because it may be a key.
//
// Keys are secret, and messages end up in logs. A key easily gets to a wrong place: its
// option is forgotten or misspelled, it has a blank in the middle, or its 0x is missing.
// So the rule is strict for unexpected words, and less strict for the values of options:
//
//   - An unexpected word is shown only if it cannot be part of a key: see [Known]. Other
//     words are described by their position and length. See [Word].
//   - The name of an unknown option is shown if it has the form of a name or is similar
//     to an existing option. The text after "=" is never shown. See [Option].
//   - The value of an option that takes no key is shown unless it looks like a key or a
//     part of one: see [MayBeKey] and [Value].
//   - The name of a file is shown if the file or its folder exists. Otherwise it is
//     treated like a value. See [File].
//   - The value of an option that takes a key is never shown.
package quote

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// most is the largest part of a text that is shown, in bytes.
const most = 128

// Text returns a text that is not a key in a form for a message of one line: unchanged
// if it is plain, else in double quotes with the escapes of Go. Control characters,
// bytes that are not UTF-8 and characters that change the direction of writing are
// escaped. Long texts are cut.
func Text(text string) string {
	cut := ""
	if len(text) > most {
		n := most
		for n > most-utf8.UTFMax && !utf8.RuneStart(text[n]) {
			n--
		}
		text, cut = text[:n], "..."
	}
	if text == "" || strings.ContainsFunc(text, unplain) || !utf8.ValidString(text) {
		return strconv.Quote(text) + cut
	}
	return text + cut
}

// unplain reports whether a character makes quotes necessary.
func unplain(r rune) bool {
	return r == ' ' || r == '"' || !unicode.IsPrint(r)
}

// Line returns a message as one line that is safe to print on a terminal; the message
// may contain text from outside. Line ends become semicolons, and unprintable
// characters are escaped as in Go.
func Line(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	return Printable(s)
}

// Printable escapes unprintable characters in s. Unlike [Text] it adds no quotes.
func Printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unprintable(r):
			b.WriteString(escape(r))
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// escape returns the escape of a character. For characters that JSON allows unescaped
// in strings, the form is also valid in JSON.
func escape(r rune) string {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	if r == 0x7f {
		return `\u007f` // JSON does not have Go's \x7f
	}
	q := strconv.QuoteRuneToASCII(r)
	return q[1 : len(q)-1]
}

// Block returns lines of output with unprintable characters escaped, except tabs and
// line ends. Text that needs no escapes is returned unchanged. If more text follows,
// incomplete is the number of bytes at the end of text that begin an incomplete
// character; the result does not include them.
func Block(text []byte, more bool) (out []byte, incomplete int) {
	if isPlain(text) {
		return text, 0
	}
	if more {
		incomplete = unfinished(text)
		text = text[:len(text)-incomplete]
	}
	var b strings.Builder
	for _, line := range strings.SplitAfter(string(text), "\n") {
		end := strings.HasSuffix(line, "\n")
		for j, cell := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			if j > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(Printable(cell))
		}
		if end {
			b.WriteByte('\n')
		}
	}
	return []byte(b.String()), incomplete
}

// isPlain reports whether text consists of printable ASCII, tabs and line ends.
func isPlain(text []byte) bool {
	for _, c := range text {
		if (c < ' ' || c >= 0x7f) && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// unfinished returns the number of bytes at the end of text that begin an incomplete
// character.
func unfinished(text []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(text)); n++ {
		tail := text[len(text)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Value returns the value of an option that takes no key in a form for a message: like
// [Text], or only its length if it may be a key.
func Value(text string) string {
	if MayBeKey(text) {
		return "(" + size(text) + ", not shown: it may be a key)"
	}
	return Text(text)
}

// Word returns an unexpected word in a form for a message: like [Text] if it is
// [Known], else its position and length. place counts the arguments from 1; 0 means
// that the word comes from a file of arguments.
func Word(text string, place int) string {
	if Known(text) {
		return Text(text)
	}
	return at("number ", place) + hidden(text)
}

// Option returns the text for an unknown option, with its dashes and without the text
// after "=". If it may be part of a key, the text is its position and length. near
// means that it is similar to an existing option.
func Option(arg string, near bool, place int) string {
	name, _, _ := strings.Cut(arg, "=")
	if near || isOptionName(strings.TrimLeft(name, "-")) {
		return Text(name)
	}
	return at("at argument ", place) + hidden(arg)
}

// Name returns a word that should be the name of a command or of an action: like [Text]
// if it has the form of a name or near is set, else its length.
func Name(text string, near bool) string {
	if near || text == "" || isOptionName(text) || Known(text) {
		return Text(text)
	}
	return hidden(text)
}

// Values of place for words that have no argument number.
const (
	Inserted = 0  // from a file of arguments
	Nowhere  = -1 // unknown
)

func at(before string, place int) string {
	switch place {
	case Nowhere:
		return ""
	case Inserted:
		return "in the file of --optionsfrom "
	}
	return before + strconv.Itoa(place) + " "
}

func hidden(text string) string {
	return "(" + size(text) + ", not shown: it may be part of a key)"
}

func size(text string) string {
	n := utf8.RuneCountInString(text)
	if n == 1 {
		return "1 character"
	}
	return strconv.Itoa(n) + " characters"
}

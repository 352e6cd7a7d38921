// Package quote decides how text from outside stands in a message: what is
// escaped, and what is not shown because it may be a key.
//
// Keys are secrets, and messages end in logs. A key gets to a wrong place easily:
// its option is forgotten or misspelled, a blank is in the middle of it, the 0x is
// missing. So the rule is strict where nothing was expected, and looser where an
// option says what its value is:
//
//   - A word that stands where nothing is expected is shown only if it is one of
//     the words that are no key: see [Known]. Others are described by their place
//     and their length. See [Word].
//   - The name of an unknown option is shown if it is written like one or differs
//     little from one that exists. What follows "=" is never shown. See [Option].
//   - The value of an option that takes no key is shown unless it looks like a key
//     or a part of one: see [MayBeKey] and [Value].
//   - The name of a file is shown if there is such a file, or its folder; else it
//     is a value. See [File].
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

// most is how much of a text is shown, in bytes.
const most = 128

// Text returns a text that is no key as it can stand in a message of one line:
// as it is if it is plain, else in double quotes with the escapes of Go. Control
// characters, bytes that are not UTF-8 and characters that change the direction
// of writing are escaped. Long texts are cut.
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

// Line returns a message that may hold text from outside as one line that does
// nothing to a terminal: line ends become semicolons, and what is not printable
// is escaped as in Go.
func Line(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	return Printable(s)
}

// Printable escapes what is not printable in s. Unlike [Text] it adds no quotes.
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

// escape is the escape of a character, in a form that JSON has too for all that may
// stand in its strings as it is.
func escape(r rune) string {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	if r == 0x7f {
		return `\u007f` // Go's \x7f is not known to JSON
	}
	q := strconv.QuoteRuneToASCII(r)
	return q[1 : len(q)-1]
}

// Block returns lines of output with all escaped that is not printable, but for
// tabs and the ends of lines. Text that needs no escapes is returned as it is.
// Where more is to follow, incomplete is how many bytes at the end of text are the
// beginning of a character; they are not in the result.
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

// isPlain reports whether text is printable ASCII, tabs and ends of lines.
func isPlain(text []byte) bool {
	for _, c := range text {
		if (c < ' ' || c >= 0x7f) && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// unfinished returns how many bytes at the end of text begin a character that is
// not complete.
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

// Value returns the value of an option that takes no key as it can stand in a
// message: as [Text] does, or its length where it may be a key.
func Value(text string) string {
	if MayBeKey(text) {
		return "(" + size(text) + ", not shown: it may be a key)"
	}
	return Text(text)
}

// Word returns a word that stands where nothing is expected: as [Text] does if it
// is [Known], else its place and length. place counts the arguments from 1; 0 means
// that the word comes from a file of arguments.
func Word(text string, place int) string {
	if Known(text) {
		return Text(text)
	}
	return at("number ", place) + hidden(text)
}

// Option returns an option that does not exist, with its dashes: without what
// follows "=", and its place and length where the rest may be part of a key. near
// says that it differs little from an option that exists.
func Option(arg string, near bool, place int) string {
	name, _, _ := strings.Cut(arg, "=")
	if near || isOptionName(strings.TrimLeft(name, "-")) {
		return Text(name)
	}
	return at("at argument ", place) + hidden(arg)
}

// Name returns a word that was to be the name of a command or of an action: as
// [Text] does if it is written like a name or is near one, else its length.
func Name(text string, near bool) string {
	if near || text == "" || isOptionName(text) || Known(text) {
		return Text(text)
	}
	return hidden(text)
}

// Places of words that are no numbers of arguments.
const (
	Inserted = 0  // from a file of arguments
	Nowhere  = -1 // not said
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

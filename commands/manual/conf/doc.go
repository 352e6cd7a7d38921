// Package conf reads ipsec.conf as far as manually keyed connections need it:
// sections, also= and alsoflip=, conn %default and include lines.
//
// A file is lines. "version 2", "include PATTERN", "config setup" and "conn
// NAME" stand at the left margin; the parameters of a section are indented, one
// to a line, as name=value or name="value with blanks". A "#" at the start of a
// line or after a blank begins a comment. An empty line, or one that is not
// indented and more than a comment, ends a section.
//
// Values may be keys: no error of this package repeats a value or a line.
package conf

import (
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/getopt"
)

// A Pos is a line of a file.
type Pos struct {
	File string
	Line int // from 1
}

func (p Pos) String() string { return getopt.Quote(p.File) + ":" + strconv.Itoa(p.Line) }

// An Error is something wrong in a file.
type Error struct {
	Pos     Pos    // the zero Pos: no line is at fault
	Section string // "conn NAME" or "config setup"; empty outside of sections
	Msg     string
}

func (e *Error) Error() string {
	s := e.Msg
	if e.Section != "" {
		s = e.Section + ": " + s
	}
	if e.Pos != (Pos{}) {
		s = e.Pos.String() + ": " + s
	}
	return s
}

// A Param is one parameter as a section gives it.
type Param struct {
	Name, Value string
	Pos         Pos
	Section     string // the section it stands in, as Error has it
}

// Error makes an Error at the parameter, whose name begins the text.
func (p Param) Error(text string) error {
	return &Error{p.Pos, p.Section, Show(p.Name) + ": " + text}
}

// Show returns a word of the file as it can stand in a message: quoted where it
// is not plain, and an ellipsis where it can be a key or a part of one.
func Show(word string) string {
	if canBeKey(word) {
		return "…"
	}
	return getopt.Quote(word)
}

// canBeKey reports whether a word can be a key or hold one: it has the prefix of
// one and is longer than an SPI, or a long row of digits and letters of hex or
// base64 is in it.
func canBeKey(word string) bool {
	const spi = len("0x") + 8
	if len(word) > spi && word[0] == '0' && strings.IndexByte("xXsStT", word[1]) >= 0 {
		return true
	}
	const digits = "0123456789+="
	rows := strings.FieldsFunc(word, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune(digits+"/_", r))
	})
	return slices.ContainsFunc(rows, func(row string) bool { return len(row) >= 16 && strings.ContainsAny(row, digits) })
}

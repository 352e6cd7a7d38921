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
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A Pos is a line of a file.
type Pos struct {
	File string
	Line int // from 1
}

func (p Pos) String() string { return quote.File(p.File) + ":" + strconv.Itoa(p.Line) }

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
	return &Error{p.Pos, p.Section, quote.Value(p.Name) + ": " + text}
}

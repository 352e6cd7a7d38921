// Package conf reads the parts of ipsec.conf that manually keyed connections need:
// sections, also= and alsoflip=, conn %default and include lines.
//
// "version 2", "include PATTERN", "config setup" and "conn NAME" stand at the left
// margin. The parameters of a section are indented, one per line, as name=value or
// name="value with blanks". A "#" at the start of a line or after a blank begins a
// comment. A section ends at an empty line, or at a line that is not indented and not
// only a comment.
//
// Values may be keys, so no error of this package repeats a value or a line.
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

// An Error is an error in a file.
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

// A Param is one parameter of a section.
type Param struct {
	Name, Value string
	Pos         Pos
	Section     string // its section, in the form of Error
}

// Error returns an Error at the parameter. The text follows the parameter's name.
func (p Param) Error(text string) error {
	return &Error{p.Pos, p.Section, quote.Value(p.Name) + ": " + text}
}

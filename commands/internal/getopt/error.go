package getopt

import (
	"strings"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A Kind is the kind of an error in an option.
type Kind uint8

// The kinds of errors.
const (
	Unknown       Kind = iota // no such option
	Ambiguous                 // the prefix fits several options
	MissingValue              // the command line ends before the value
	UnwantedValue             // "=value" after an option that takes none
)

// An Error is an error in an option. Its text is one line.
type Error struct {
	Kind Kind
	Arg  string // the option at fault, with its dashes and without its value
	// Place is the number of the argument, from 1; 0: it comes from a file.
	Place int
	// Candidates are the options that Arg can mean (Ambiguous) or was probably meant to
	// be (Unknown).
	Candidates []string
	Want       string // MissingValue: the placeholder of the value
	near       bool   // Arg differs little from the Candidates
}

func (e *Error) Error() string {
	arg := quote.Option(e.Arg, e.Kind != Unknown || e.near, e.Place)
	switch e.Kind {
	case Ambiguous:
		return "option " + arg + " can mean " + strings.Join(e.Candidates, ", ") + "; write more of its name"
	case MissingValue:
		return "option " + arg + " needs a value (" + e.Want + ")"
	case UnwantedValue:
		return "option " + arg + " takes no value"
	}
	s := "unknown option " + arg
	if len(e.Candidates) > 0 {
		s += "; did you mean " + strings.Join(e.Candidates, " or ") + "?"
	}
	return s
}

package getopt

import (
	"strconv"
	"strings"
)

// A Kind says what is wrong with an option.
type Kind uint8

// The kinds of errors.
const (
	Unknown       Kind = iota // there is no such option
	Ambiguous                 // the prefix fits several options
	MissingValue              // the command line ends before the value
	UnwantedValue             // "=value" after an option that takes none
)

// An Error is an option that is wrong. Its text is one line.
type Error struct {
	Kind Kind
	Arg  string // the option at fault, with its dashes and without its value
	// Candidates are the options that Arg can stand for (Ambiguous) or was
	// perhaps meant to be (Unknown).
	Candidates []string
	Want       string // MissingValue: the placeholder of the value
}

func (e *Error) Error() string {
	arg := Quote(e.Arg)
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

// Quote returns text as it can stand in a message of one line: as it is if it
// is plain, else in double quotes with escapes; long texts are cut.
func Quote(text string) string {
	const most = 128
	cut := ""
	if len(text) > most {
		text, cut = text[:most], "..."
	}
	for i := 0; i < len(text); i++ {
		if text[i] <= ' ' || text[i] >= 0x7f || text[i] == '"' {
			return strconv.Quote(text) + cut
		}
	}
	if text == "" {
		return `""`
	}
	return text + cut
}

package syntax

import (
	"errors"
	"fmt"
)

// A Kind is what is wrong with a text, for programs.
type Kind uint8

// The kinds.
const (
	Malformed    Kind = iota // something else than the kinds below
	Empty                    // there is no text, or no number in it
	Digit                    // a character is no digit of a number
	Range                    // a number is too large
	Word                     // it is none of the words that are known
	SPI                      // the SPI of a SAID is wrong; the cause has a kind, too
	PrefixLength             // the prefix length is more than the bits of the address
	Port                     // a port stands where none is taken
	KeyLength                // the algorithm takes no key of this length
)

// Is reports whether an error is an *[Error] of one of the kinds, or has one as its cause.
func Is(err error, kinds ...Kind) bool {
	var e *Error
	for errors.As(err, &e) {
		for _, k := range kinds {
			if e.Kind == k {
				return true
			}
		}
		err = e.Err
	}
	return false
}

// An Error describes what is wrong with a text. Its message is lower case, has no
// trailing full stop and does not repeat the text: the caller names the argument. It
// never contains any part of a key.
type Error struct {
	Kind Kind
	Msg  string
	Err  error // the cause, if there is one, such as a failed name lookup
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func syntaxf(format string, args ...any) error { return kindf(Malformed, format, args...) }

func kindf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// errEmpty is a function because errors are rare: a variable would have to be
// initialised at each start of the program.
func errEmpty() error { return kindf(Empty, "empty text") }

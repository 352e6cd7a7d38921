package syntax

import "fmt"

// A Error says what is wrong with a text. Its message is lower case, has
// no trailing full stop and does not repeat the text itself: who reports it
// names the argument. It never holds any part of a key.
type Error struct {
	Msg string
	Err error // the cause, if there is one, such as a failed name lookup
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func syntaxf(format string, args ...any) error {
	return &Error{Msg: fmt.Sprintf(format, args...)}
}

// errEmpty is a function because errors of texts are rare: no variable is worth
// initialising for them at each start of the program.
func errEmpty() error { return syntaxf("empty text") }

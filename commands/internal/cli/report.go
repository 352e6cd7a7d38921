package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Message is the one place where the error of an applet becomes a line of text
// and an exit status; name is what the line begins with, see [Env.Name]. The
// text is empty where there is nothing to say: for a nil error, which is
// success, and for an [ExitError]. It has what to do about a stack that cannot be
// used. What is not printable in it is escaped.
func Message(name string, err error) (text string, status int) {
	var exit *ExitError
	var usage *UsageError
	switch {
	case err == nil:
		return "", ExitOK
	case errors.As(err, &exit):
		return "", exit.Code
	case errors.As(err, &usage):
		command, _, _ := strings.Cut(name, " --label ")
		return quote.Line(fmt.Sprintf("%s: %s (see %s --help)", name, strings.TrimSpace(err.Error()), command)), ExitUsage
	}
	return quote.Line(name + ": " + strings.TrimSpace(explain.Line(err))), ExitFailed
}

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Message turns the error of an applet into a line of text and an exit status. No other
// code does that. name is the beginning of the line, see [Env.Name]. The text is empty
// for a nil error, which is success, and for an [ExitError]. If a stack cannot be used,
// the text includes what to do. Unprintable characters are escaped.
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

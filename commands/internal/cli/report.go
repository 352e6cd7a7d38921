package cli

import (
	"errors"
	"fmt"
	"strings"
)

// Message is the one place where the error of an applet becomes a line of text
// and an exit status; name is what the line begins with, see [Env.Name]. The
// text is empty where there is nothing to say: for a nil error, which is
// success, and for an [ExitError].
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
		return fmt.Sprintf("%s: %s (see %s --help)", name, oneLine(err.Error()), command), ExitUsage
	}
	return name + ": " + oneLine(err.Error()), ExitFailed
}

// oneLine joins the lines of joined errors and of texts from elsewhere.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}

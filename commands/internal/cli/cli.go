// Package cli is what every applet is made of: its entry in the registry, the
// world it runs in, and how it fails.
//
// Rules of messages: results go to standard output and nothing else does; all
// else goes to standard error as one line that begins with the program's name
// as invoked ("ipsec spi: …", with --label appended), in lower case and without
// a trailing full stop, and says which argument or object is at fault, what is
// wrong with it, and how to mend it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// An App is one applet. Its option table serves the parser, the usage text,
// shell completion and the manual page.
type App struct {
	Name  string // as typed: "spigrp"
	Short string // one line for the list of applets, lower case, no full stop
	// Synopsis are the lines that follow the name in usage and page, such as
	// "--add FLOW --said SAID".
	Synopsis []string
	// Options returns the option table, for usage, completion and page. It must
	// not do work.
	Options []getopt.Option
	// Operands are what operands can be, as [getopt.Option.Values]; may be nil.
	Operands []string
	// Notes follow the options in the usage text, such as lists of algorithms;
	// may be nil.
	Notes func() string
	// Parse reads a command line, without the applet's name. It asks nobody but the
	// resolver, and reads no files but those of --optionsfrom. env gets the label, for
	// messages, also with an error.
	Parse func(env *Env, args []string) (Command, error)
}

// An Entry is an applet in the registry. Its App is made only when the applet has been
// chosen, or is to be described.
type Entry struct {
	Name string
	App  func() *App
	// InFile: the applet can stand in a file of commands (ipsec batch). It ends by itself
	// and reads no standard input.
	InFile bool
}

// Run reads a command line and carries it out.
func (a *App) Run(ctx context.Context, env *Env, args []string) error {
	c, err := a.Parse(env, args)
	if err != nil {
		return err
	}
	return c.Run(ctx, env)
}

// An Env is the world an applet runs in. Tests make their own.
type Env struct {
	Name     string // prefix of messages, as invoked: "ipsec spi" or "spi"
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Stack opens the stack that was chosen, at the first call; who calls it
	// closes it. Applets call it only after their arguments have been checked.
	Stack func(ctx context.Context) (klips.Stack, error)
	// StackName is what --stack or IPSEC_STACK asked for; empty: nothing.
	StackName string
	// Resolver looks names up; nil means numbers only.
	Resolver syntax.Resolver
	// Later, if it is set, takes the checks of commands of which one run makes
	// several, and the name that their notes begin with. See [Env.Check] and [Notes].
	Later func(name string, check Check)
	// Version is the program's version.
	Version string
}

// Exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // the stack, the system or a file refused
	ExitUsage  = 2 // the command line is wrong; nothing was asked of anybody
)

// A UsageError is a command line that is wrong.
type UsageError struct {
	Msg string
	Err error // the cause, if there is one, such as a *[syntax.Error]
}

func (e *UsageError) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError, as [fmt.Errorf] makes an error.
func Usagef(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &UsageError{err.Error(), errors.Unwrap(err)}
}

// An ExitError ends the program with a code and no message, because what there
// was to say has been said.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

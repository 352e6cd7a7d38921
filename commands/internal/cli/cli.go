// Package cli has the parts that all applets share: the entry in the registry, the
// environment, and the errors.
//
// Rules of messages: results go to standard output, all other text goes to standard
// error. A message is one line. It begins with the program's name as invoked ("ipsec
// spi: …", with --label appended), is in lower case and has no full stop at the end. It
// names the argument or object at fault, what is wrong with it, and how to fix it.
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
	// Options returns the option table, for usage, completion and page. It must not do
	// any other work.
	Options []getopt.Option
	// Operands lists the possible operands, as [getopt.Option.Values]; may be nil.
	Operands []string
	// Notes returns the text that follows the options in the usage text, such as lists
	// of algorithms; may be nil.
	Notes func() string
	// Parse reads a command line, without the applet's name. It uses no network or
	// stack, except through the resolver, and reads no files except those of
	// --optionsfrom. It sets the label in env, for messages, also when it returns an
	// error.
	Parse func(env *Env, args []string) (Command, error)
}

// An Entry is an applet in the registry. Its App is created only when the applet is run
// or described.
type Entry struct {
	Name string
	App  func() *App
	// InFile: the applet can be used in a file of commands (ipsec batch). Such an
	// applet ends without a signal and does not read standard input.
	InFile bool
}

// Run parses a command line and carries it out.
func (a *App) Run(ctx context.Context, env *Env, args []string) error {
	c, err := a.Parse(env, args)
	if err != nil {
		return err
	}
	return c.Run(ctx, env)
}

// An Env is everything that an applet may use: streams, environment, stack, resolver.
// Tests create their own.
type Env struct {
	Name     string // prefix of messages, as invoked: "ipsec spi" or "spi"
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Stack opens the chosen stack at its first call. The caller closes it. Applets
	// call it only after they have checked their arguments.
	Stack func(ctx context.Context) (klips.Stack, error)
	// StackName is the value of --stack or IPSEC_STACK; empty: none.
	StackName string
	// Resolver looks names up; nil means numbers only.
	Resolver syntax.Resolver
	// Later, if it is set, collects the checks of several commands, with the name that
	// their notes begin with. See [Env.Check] and [Notes].
	Later func(name string, check Check)
	// Version returns the program's version. Few commands need it, and it takes a while to
	// find.
	Version func() string
}

// Exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // the stack, the system or a file caused an error
	ExitUsage  = 2 // the command line is wrong; nothing was changed
)

// A UsageError is an error in a command line.
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

// An ExitError ends the program with a code and without a message. The message, if any,
// has been printed already.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

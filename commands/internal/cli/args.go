package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// CommonOptions returns the options that every applet with long options has. They stand
// at the end of its table.
func CommonOptions() []getopt.Option {
	return []getopt.Option{
		{Name: "debug", Help: "print each step on standard error"},
		{Name: "label", Arg: "LABEL", Help: "put LABEL into the messages of this call"},
		{Name: "optionsfrom", Arg: "FILE", Help: "read more arguments from FILE, at this place", Values: []string{"<file>"}},
		{Name: "help", Help: "print this text"},
		{Name: "version", Help: "print the version"},
	}
}

// JSONOption returns the option of applets that can print a listing as JSON. what names
// the listing.
func JSONOption(what string) getopt.Option {
	return getopt.Option{Name: "json", Help: "print " + what + " as a JSON object, see ipsec_json(5)", Whole: true}
}

// ParseCount returns the value of the option --count, a number of things. The error is a
// [UsageError].
func ParseCount(value, things string) (uint64, error) {
	n, err := syntax.ParseNumber(value, 10, 1<<62)
	if err != nil || n == 0 {
		return 0, Usagef("--count %s: want a number of %s, at least 1", quote.Value(value), things)
	}
	return n, nil
}

// A Common holds the values of the common options.
type Common struct {
	Debug         bool
	Label         string
	JSON          bool // of applets that have [JSONOption]
	Help, Version bool // the rest of the command line has not been parsed
	// Operands are the arguments that are not options. They are refused unless
	// TakesOperands is set.
	TakesOperands bool
	Operands      []string
	Places        []int // the argument number of each operand, from 1; 0: from a file of arguments
}

// Parse reads a command line. It handles the common options itself and calls on for
// each other option, with its canonical name. It has no other effects, except that it
// reads the files of --optionsfrom. After --help or --version it returns at once.
func (c *Common) Parse(opts []getopt.Option, args []string, mode getopt.Mode, on func(name, value string) error) error {
	s := getopt.NewScanner(opts, args, mode)
	for {
		o, value, err := s.Next()
		if err != nil {
			if asksForHelp(opts, err) {
				c.Help = true
				return nil
			}
			return &UsageError{err.Error(), err}
		}
		if o == nil {
			break
		}
		switch name := o.Canonical(); name {
		case "debug":
			c.Debug = true
		case "json":
			c.JSON = true
		case "label":
			c.Label = value
		case "optionsfrom":
			if err := s.InsertFile(value); err != nil {
				return fmt.Errorf("--optionsfrom %w", err)
			}
		case "help":
			c.Help = true
			return nil
		case "version":
			c.Version = true
			return nil
		default:
			if err := on(name, value); err != nil {
				return err
			}
		}
	}
	rest := s.Operands()
	if c.TakesOperands {
		c.Operands = rest
		for i := range rest {
			c.Places = append(c.Places, s.Place(i))
		}
		return nil
	}
	if len(rest) > 0 {
		return Usagef("unexpected argument %s; everything here is given with options", quote.Word(rest[0], s.Place(0)))
	}
	return nil
}

// asksForHelp reports whether the parser failed at -h or -?. They mean --help, unless
// an option of the applet has this letter.
func asksForHelp(opts []getopt.Option, err error) bool {
	var e *getopt.Error
	return errors.As(err, &e) && e.Kind == getopt.Unknown && (e.Arg == "-h" || e.Arg == "-?") &&
		slices.ContainsFunc(opts, func(o getopt.Option) bool { return o.Name == "help" })
}

// Command returns cmd, or the command that prints the help or the version if the common
// options ask for that. It adds the label to the prefix of messages. err is the error
// of Parse; Command returns it.
func (c *Common) Command(env *Env, app func() *App, err error, cmd Command) (Command, error) {
	if c.Label != "" {
		env.Name += " --label " + label(c.Label)
	}
	switch {
	case err != nil:
		return nil, err
	case c.Help:
		return Func(func(_ context.Context, env *Env) error { return Usage(env, app()) }), nil
	case c.Version:
		return Func(printVersion), nil
	}
	return cmd, nil
}

func printVersion(_ context.Context, env *Env) error {
	return Print(env, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s\n", env.Name, env.Version())
		return err
	})
}

// label returns a label in the form that messages show, on one line.
func label(text string) string {
	if quote.MayBeKey(text) {
		return quote.Value(text)
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// DebugStack prints the name of the opened stack, if --debug was given.
func (c *Common) DebugStack(env *Env, s klips.Stack) { c.Debugf(env, "stack %s", s.Info().Name) }

// Debugf prints a line on standard error if --debug was given.
func (c *Common) Debugf(env *Env, format string, args ...any) {
	if c.Debug {
		printLine(env, "debug: "+fmt.Sprintf(format, args...))
	}
}

// Notef prints a note on standard error. A note does not change the exit status.
func Notef(env *Env, format string, args ...any) {
	printLine(env, "note: "+fmt.Sprintf(format, args...))
}

// printLine prints a line on standard error.
func printLine(env *Env, text string) {
	fmt.Fprintln(env.Err, quote.Line(env.Name+": "+text))
}

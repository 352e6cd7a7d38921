package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/klips"
)

// CommonOptions are the options that every applet with long options has, for
// the end of its table.
func CommonOptions() []getopt.Option {
	return []getopt.Option{
		{Name: "debug", Help: "say on standard error what is done"},
		{Name: "label", Arg: "LABEL", Help: "put LABEL into the messages of this call"},
		{Name: "optionsfrom", Arg: "FILE", Help: "read more arguments from FILE, at this place", Values: []string{"<file>"}},
		{Name: "help", Help: "print this text"},
		{Name: "version", Help: "print the version"},
	}
}

// A Common is what the common options asked for.
type Common struct {
	Debug         bool
	Label         string
	Help, Version bool // the rest of the command line has not been looked at
	// Operands are what is left besides the options; refused unless
	// TakesOperands is set.
	TakesOperands bool
	Operands      []string
}

// Parse reads a command line: the common options by itself, the others through
// on, which gets the canonical name. It does no more than fill c and call on,
// except for reading the files of --optionsfrom. Operands are refused. After
// --help or --version it returns without looking further.
func (c *Common) Parse(opts []getopt.Option, args []string, mode getopt.Mode, on func(name, value string) error) error {
	s := getopt.NewScanner(opts, args, mode)
	for {
		o, value, err := s.Next()
		if err != nil {
			return &UsageError{err.Error()}
		}
		if o == nil {
			break
		}
		switch name := o.Canonical(); name {
		case "debug":
			c.Debug = true
		case "label":
			c.Label = value
		case "optionsfrom":
			if err := s.InsertFile(value); err != nil {
				return fmt.Errorf("--optionsfrom: %w", err)
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
		return nil
	}
	if len(rest) > 0 {
		if secret(rest[0]) {
			return Usagef("there is an argument that looks like a key but does not follow --authkey or --enckey")
		}
		return Usagef("unexpected argument %s; everything here is given with options", getopt.Quote(rest[0]))
	}
	return nil
}

// secret reports whether an argument can be a key that must not be repeated in
// a message.
func secret(arg string) bool {
	if len(arg) < 10 || arg[0] != '0' {
		return false
	}
	switch arg[1] {
	case 'x', 'X', 's', 'S', 't', 'T':
		return true
	}
	return false
}

// Begin does what the common options ask for: it puts the label into the prefix
// of messages and, if there is nothing else to do, prints help or version. err
// is what parsing returned. When done is true, the applet returns err.
func (c *Common) Begin(env *Env, app *App, err error) (done bool, _ error) {
	if c.Label != "" {
		env.Name += " --label " + strings.Map(printable, c.Label)
	}
	switch {
	case err != nil:
		return true, err
	case c.Help:
		Usage(env.Out, app, env)
		return true, nil
	case c.Version:
		_, err := fmt.Fprintf(env.Out, "%s %s\n", env.Name, env.Version)
		return true, err
	}
	return false, nil
}

// printable keeps a label on one line.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

// Open does what Begin does and, if there is more to do, opens the stack; the
// applet closes it. Where the stack is nil, the applet returns the error.
func (c *Common) Open(ctx context.Context, env *Env, app *App, err error) (klips.Stack, error) {
	if done, err := c.Begin(env, app, err); done {
		return nil, err
	}
	stack, err := env.Stack(ctx)
	if err != nil {
		return nil, err
	}
	c.Debugf(env, "stack %s", stack.Name())
	return stack, nil
}

// Debugf prints a line on standard error if --debug was given.
func (c *Common) Debugf(env *Env, format string, args ...any) {
	if c.Debug {
		fmt.Fprintf(env.Err, "%s: debug: "+format+"\n", append([]any{env.Name}, args...)...)
	}
}

// Notef prints a line on standard error that is no failure.
func Notef(env *Env, format string, args ...any) {
	fmt.Fprintf(env.Err, "%s: note: "+format+"\n", append([]any{env.Name}, args...)...)
}

// Print gives write a buffered standard output, and returns its error or that
// of the output (a full disk).
func Print(env *Env, write func(w io.Writer) error) error {
	w := bufio.NewWriterSize(env.Out, 32<<10)
	if err := errors.Join(write(w), w.Flush()); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

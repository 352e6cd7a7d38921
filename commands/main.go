// Package commands is the program ipsec: the list of its applets, the choice of the
// applet, and the exit status.
//
// The name of the program (a link ipsec_spigrp or spigrp) selects the applet, or else
// the first argument. Only that applet is created, because scripts start this program
// thousands of times. The tree of all applets is built only for shell completion.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/buildinfo"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/stacks"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Main runs the program and returns its exit status. The first of args is the name that
// the program was called by.
func Main(args []string) int { return Run(args, os.Stdout, os.Stderr) }

// Run is [Main] with other files in place of standard output and standard error.
func Run(args []string, out, err io.Writer) int {
	p := &program{
		in: os.Stdin, out: out, err: err,
		getenv:   environ.Get,
		open:     stacks.Open,
		resolver: resolve,
	}
	return p.main(args)
}

// resolve looks a name up, unless it may be a misplaced key: keys must not be sent to
// name servers.
func resolve(name string, f syntax.Family) (netip.Addr, error) {
	if quote.IsKey(name) {
		return netip.Addr{}, errors.New("it may be a key, so no name server was asked")
	}
	return netdb.Host(name, f)
}

// A program is one run of the program and its environment.
type program struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	open     func(ctx context.Context, c stacks.Config) (klips.Stack, error)
	resolver syntax.Resolver

	stack string // value of --stack or IPSEC_STACK; empty: the first stack that is available
}

// linkPrefix is the beginning of the names of links to this program. It keeps them
// apart from other programs.
const linkPrefix = "ipsec_"

func (p *program) main(args []string) int {
	p.stack = p.getenv(environ.Stack)
	name := "ipsec"
	if len(args) > 0 {
		name, args = filepath.Base(args[0]), args[1:]
	}
	if app := find(strings.TrimPrefix(name, linkPrefix)); app != nil {
		if len(args) > 0 && isCompletion(args[0]) {
			// Shells ask for completions by the name of the typed command.
			return p.complete(append([]string{args[0], strings.TrimPrefix(name, linkPrefix)}, args[1:]...))
		}
		return p.run(app(), name, args)
	}
	if applet, ok := strings.CutPrefix(name, linkPrefix); ok {
		words := unalias(append([]string{applet}, args...))
		if app := find(words[0]); app != nil {
			return p.run(app(), name, words[1:])
		}
		return p.fail(name, unknownApplet(applet))
	}
	return p.dispatch(args)
}

// dispatch selects the action by the first argument.
func (p *program) dispatch(args []string) int {
	for len(args) > 0 {
		arg := args[0]
		if arg == "--stack" || strings.HasPrefix(arg, "--stack=") {
			var err error
			if args, err = p.chooseStack(args); err != nil {
				return p.fail("ipsec", err)
			}
			continue
		}
		switch {
		case arg == "help" || isHelp(arg):
			return p.help(args[1:])
		case arg == "--version" || arg == "--versioncode":
			return p.fail("ipsec", p.printVersion(arg == "--versioncode"))
		case arg == "completion":
			return p.completion(args[1:])
		case isCompletion(arg):
			return p.complete(args)
		case strings.HasPrefix(arg, "-"):
			return p.fail("ipsec", cli.Usagef("unknown option %s; options of an applet follow its name, as in ipsec spi --help",
				quote.Option(arg, false, 1)))
		}
		args = unalias(args)
		app := find(args[0])
		if app == nil {
			return p.fail("ipsec", unknownApplet(arg))
		}
		return p.run(app(), "ipsec "+args[0], args[1:])
	}
	return p.help(nil)
}

// chooseStack parses --stack at the front of args and returns the remaining arguments.
func (p *program) chooseStack(args []string) (rest []string, err error) {
	name, ok := strings.CutPrefix(args[0], "--stack=")
	rest = args[1:]
	if !ok {
		if len(rest) == 0 {
			return nil, cli.Usagef("--stack needs a name: %s", stacks.Choice())
		}
		name, rest = rest[0], rest[1:]
	}
	if err := checkStack(name); err != nil {
		return nil, err
	}
	p.stack = name
	return rest, nil
}

// checkStack refuses an unknown name of a stack.
func checkStack(name string) error {
	if stacks.IsName(name) {
		return nil
	}
	return cli.Usagef("unknown stack %s; want %s", quote.Value(name), stacks.Choice())
}

// run runs an applet that was called by the given name.
func (p *program) run(app *cli.App, name string, args []string) int {
	env := p.env(name)
	err := app.Run(context.Background(), env, args)
	return p.fail(env.Name, err)
}

// env returns the environment of an applet.
func (p *program) env(name string) *cli.Env {
	env := &cli.Env{
		Name:      name,
		In:        p.in,
		Out:       p.out,
		Err:       p.err,
		Getenv:    p.getenv,
		StackName: p.stack,
		Resolver:  p.resolver,
		Version:   buildinfo.Version,
	}
	env.Stack = func(ctx context.Context) (klips.Stack, error) {
		if err := checkStack(p.stack); err != nil {
			return nil, fmt.Errorf("IPSEC_STACK: %w", err)
		}
		stack, err := p.open(ctx, environ.Stacks(p.stack, p.getenv))
		if err != nil {
			return nil, err
		}
		return stack, nil
	}
	return env
}

// fail prints an error on standard error and returns the exit status; a nil error is
// success.
func (p *program) fail(name string, err error) int {
	text, status := cli.Message(name, err)
	if text != "" {
		fmt.Fprintln(p.err, text)
	}
	return status
}

func (p *program) printVersion(codeOnly bool) error {
	line := "ipsec " + buildinfo.Version()
	if codeOnly {
		line = buildinfo.Version()
	}
	return p.print(func(w io.Writer) { fmt.Fprintln(w, line) })
}

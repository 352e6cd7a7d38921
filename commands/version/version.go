// Package version is the applet that prints the versions of the program and of the
// stack.
package version

import (
	"context"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "version",
		Short:    "print the versions of the program and of the stack",
		Synopsis: []string{"[--abilities] [--json]"},
		Options: []getopt.Option{
			{Name: "abilities", Help: "print also the abilities of the stack, if they depend on the kernel; the test may take seconds", Whole: true},
			cli.JSONOption("the versions"),
			{Name: "help", Help: "print this text"},
			{Name: "version", Help: "print the version of the program only"},
		},
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	var c cli.Common
	abilities := false
	err := c.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(name, _ string) error {
		abilities = abilities || name == "abilities"
		return nil
	})
	return c.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		v := read(ctx, env, abilities)
		if c.JSON {
			return output.Print(env, v.json())
		}
		return cli.Print(env, v.write)
	}))
}

// A view holds the versions, read once.
type view struct {
	program string // its version
	noStack error  // why there is no stack
	stack   string // name of the stack
	version string // version line of the stack; empty: problem is the reason
	problem string
	chosen  string // why this stack was chosen
	listing.Abilities
}

func read(ctx context.Context, env *cli.Env, abilities bool) view {
	v := view{program: env.Version()}
	stack, err := env.Stack(ctx)
	if err != nil {
		v.noStack = err
		return v
	}
	defer stack.Close()
	v.stack, v.chosen = stack.Info().Name, listing.Chosen(env.StackName)
	if t, err := stack.Snapshot(ctx, klips.Want{Version: true}); err != nil {
		v.problem = explain.Cause(err)
	} else {
		v.version = t.Version
	}
	if abilities {
		v.Abilities = listing.Probe(ctx, stack)
	}
	return v
}

// json returns the view for programs.
func (v *view) json() output.VersionList {
	s := output.Component{
		Component: "stack", Name: v.stack, Version: v.version, Problem: v.problem, Chosen: v.chosen,
		Abilities: output.Abilities(v.List), AbilitiesProblem: v.NotKnown,
	}
	if v.noStack != nil {
		s.Problem = explain.Line(v.noStack)
	}
	program := output.Component{Component: "program", Name: "ipsec", Version: v.program}
	return output.VersionList{Head: output.NewHead(v.stack), Components: []output.Component{program, s}}
}

// write prints the view for people.
func (v *view) write(w io.Writer) error {
	fmt.Fprintf(w, "ipsec %s\n", v.program)
	if v.noStack != nil {
		// Not an error: the program's own version has been printed.
		fmt.Fprintf(w, "no stack: %s\n", explain.Line(v.noStack))
		return nil
	}
	line := v.version
	if v.problem != "" {
		line = "its version is not known: " + v.problem
	}
	fmt.Fprintf(w, "stack %s: %s\n", v.stack, line)
	fmt.Fprintf(w, "chosen because %s\n", v.chosen)
	v.Abilities.Write(w)
	return nil
}

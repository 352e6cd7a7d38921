// Package version is the applet that says which program and which stack this
// is.
package version

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/stacks"
)

// override is the version that the linker was given (-X); empty: that of the
// build information.
var override string

// Program returns the version of the program: the linker's, else that of the
// module or of the commit it was built from, else "devel".
func Program() string {
	if override != "" {
		return override
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "version",
		Short:    "print the versions of the program and of the stack",
		Synopsis: []string{"[--json]"},
		Options: []getopt.Option{
			cli.JSONOption("the versions"),
			{Name: "help", Help: "print this text"},
			{Name: "version", Help: "print the version of the program only"},
		},
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	var c cli.Common
	err := c.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(string, string) error { return nil })
	do := run
	if c.JSON {
		do = runJSON
	}
	return c.Command(env, App, err, cli.Func(do))
}

// runJSON is run for programs.
func runJSON(ctx context.Context, env *cli.Env) error { return output.Print(env, versions(ctx, env)) }

func versions(ctx context.Context, env *cli.Env) output.VersionList {
	program := output.Component{Component: "program", Name: "ipsec", Version: env.Version}
	s := output.Component{Component: "stack"}
	stack, err := env.Stack(ctx)
	if err != nil {
		s.Problem = err.Error()
		return output.VersionList{Head: output.NewHead(""), Components: []output.Component{program, s}}
	}
	defer stack.Close()
	s.Name, s.Chosen = stack.Info().Name, why(env.StackName)
	if t, err := stack.Snapshot(ctx, klips.Want{Version: true}); err != nil {
		s.Problem = explain.Cause(err)
	} else {
		s.Version = t.Version
	}
	a := listing.Probe(ctx, stack)
	s.Abilities, s.AbilitiesProblem = output.Abilities(a.List), a.NotKnown
	return output.VersionList{Head: output.NewHead(s.Name), Components: []output.Component{program, s}}
}

func run(ctx context.Context, env *cli.Env) error {
	return cli.Print(env, func(w io.Writer) error {
		fmt.Fprintf(w, "ipsec %s\n", env.Version)
		stack, err := env.Stack(ctx)
		if err != nil {
			// No stack is no failure: the program's version was to be had.
			fmt.Fprintf(w, "no stack: %v\n", err)
			return nil
		}
		defer stack.Close()
		line := ""
		if t, err := stack.Snapshot(ctx, klips.Want{Version: true}); err != nil {
			line = "its version is not known: " + explain.Cause(err)
		} else {
			line = t.Version
		}
		fmt.Fprintf(w, "stack %s: %s\n", stack.Info().Name, line)
		fmt.Fprintf(w, "chosen because %s\n", why(env.StackName))
		listing.Probe(ctx, stack).Write(w)
		return nil
	})
}

// why says why a stack was chosen when asked was asked for.
func why(asked string) string {
	if asked != "" && asked != "auto" {
		return "--stack or IPSEC_STACK asked for it"
	}
	return "it is the first of " + strings.Join(stacks.Names[:], ", ") + " that is there"
}

package manual

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips/stacks"
)

// ShowDefaults returns the applet that prints what commands and files use if nothing is
// named.
func ShowDefaults() *cli.App {
	a := &cli.App{
		Name: "showdefaults", Short: "print what commands and files use if nothing is named",
		Synopsis: []string{"[--json]"},
		Options:  append([]getopt.Option{cli.JSONOption("the defaults")}, cli.CommonOptions()...),
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) { return defaultsCommand(env, a, args, nil) }
	return a
}

// defaultsCommand returns the command for a host, which a test can replace; nil: this host.
func defaultsCommand(env *cli.Env, app *cli.App, args []string, h host.Host) (cli.Command, error) {
	var c cli.Common
	err := c.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(string, string) error { return nil })
	return c.Command(env, func() *cli.App { return app }, err, onHost(h, nil, func(ctx context.Context, env *cli.Env, h host.Host, _ host.Network) error {
		d, stack := defaults(ctx, env, h)
		if c.JSON {
			return output.Print(env, output.ShowdefaultsList{Head: output.NewHead(stack), Defaults: []output.Defaults{d}})
		}
		return cli.Print(env, func(w io.Writer) error { return writeDefaults(w, &d) })
	}))
}

// defaults finds the defaults, and the name of the stack; empty: there is none.
func defaults(ctx context.Context, env *cli.Env, h host.Host) (d output.Defaults, name string) {
	for i, r := range [...]*output.DefaultRoute{&d.IPv4, &d.IPv6} {
		found, err := h.DefaultRoute(i == 1)
		if err != nil {
			*r = output.DefaultRoute{Problem: explain.Cause(err)}
			continue
		}
		*r = output.DefaultRoute{Device: found.Device, Address: found.Local, NextHop: found.Gateway}
	}
	if s, err := env.Stack(ctx); err != nil {
		d.StackProblem = explain.Line(err)
	} else {
		name = s.Info().Name
		s.Close()
		d.Stack, d.StackChosen = name, listing.Chosen(env.StackName)
	}
	d.StackSearch, d.Files = stacks.Names[:], []string{}
	d.Device, d.ConnectionReplayWindowPackets, d.ExtendedReplayWindowPackets = "ipsec0", defaultWindow, spi.KLIPSWindow
	if names, err := conf.Search("", env.Getenv); err != nil {
		d.FilesProblem = explain.Cause(err)
	} else {
		d.Files = append(d.Files, names...)
	}
	switch file, folder := environ.Conf(env.Getenv), environ.Confs(env.Getenv); {
	case file != "":
		d.FilesSearch = []string{file}
	case folder != "":
		d.FilesSearch = []string{folder + "/*.conf"}
	default:
		d.FilesSearch = []string{conf.Usual, environ.DefaultConf}
	}
	d.BootFile = environ.BootConf(env.Getenv)
	dir, err := environ.Rundir(env.Getenv)
	if d.RunDirectory = dir; err != nil {
		d.RunDirectoryProblem = explain.Line(err)
	}
	d.StateDirectory = environ.Statedir(env.Getenv)
	return d, name
}

// writeDefaults prints the defaults for people.
func writeDefaults(w io.Writer, d *output.Defaults) error {
	for i, r := range [...]*output.DefaultRoute{&d.IPv4, &d.IPv6} {
		family := [...]string{"IPv4", "IPv6"}[i]
		switch {
		case r.Problem != "":
			fmt.Fprintf(w, "%%defaultroute of %s: none: %s\n", family, r.Problem)
		case !r.NextHop.IsValid():
			fmt.Fprintf(w, "%%defaultroute of %s: address %v of %s, without a next hop\n", family, r.Address, r.Device)
		default:
			fmt.Fprintf(w, "%%defaultroute of %s: address %v of %s, next hop %v\n", family, r.Address, r.Device, r.NextHop)
		}
	}
	if d.Stack != "" {
		fmt.Fprintf(w, "stack: %s, because %s\n", d.Stack, d.StackChosen)
	} else {
		fmt.Fprintf(w, "stack: none: %s\n", d.StackProblem)
	}
	fmt.Fprintf(w, "virtual device of a connection: %s\n", d.Device)
	fmt.Fprintf(w, "replay window of a connection: %d packets; of ipsec spi: none, and %d with --esn\n", d.ConnectionReplayWindowPackets, d.ExtendedReplayWindowPackets)
	names := func(paths []string) string {
		quoted := make([]string, len(paths))
		for i, p := range paths {
			quoted[i] = quote.File(p)
		}
		return strings.Join(quoted, " ")
	}
	fmt.Fprintf(w, "connections are looked for in: %s\n", names(d.FilesSearch))
	switch {
	case d.FilesProblem != "":
		fmt.Fprintf(w, "files there: not known: %s\n", d.FilesProblem)
	case len(d.Files) == 0:
		fmt.Fprintf(w, "files there: none\n")
	default:
		fmt.Fprintf(w, "files there: %s\n", names(d.Files))
	}
	writePath(w, "file for the start of the stack", d.BootFile, "")
	writePath(w, "run directory", d.RunDirectory, d.RunDirectoryProblem)
	writePath(w, "state directory", d.StateDirectory, "")
	return nil
}

func writePath(w io.Writer, what, path, problem string) {
	switch {
	case problem != "":
		fmt.Fprintf(w, "%s: %s\n", what, problem)
	case path == "":
		fmt.Fprintf(w, "%s: none\n", what)
	default:
		fmt.Fprintf(w, "%s: %s\n", what, quote.File(path))
	}
}

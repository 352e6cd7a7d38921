// Package metrics is the applet metrics: the counters of a stack for monitoring systems, as
// OpenMetrics text.
package metrics

import (
	"context"
	"errors"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "metrics",
		Short:    "print or serve counters for monitoring systems",
		Synopsis: []string{"[--listen ADDR]"},
		Options: append([]getopt.Option{
			{Name: "listen", Arg: "ADDR", Help: "serve them over HTTP, until a signal, at [HOST]:PORT or unix:PATH; without HOST only for this machine", Values: []string{":9471", "unix:/run/ipsec-metrics.sock"}},
		}, cli.CommonOptions()...),
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	var c cli.Common
	var given cli.Given
	err := c.Parse(App().Options, args, getopt.EnvMode(env.Getenv), given.Add)
	var at place
	addr, server := given.Value("listen")
	if err == nil && server && !c.Help && !c.Version {
		at, err = parsePlace(addr, env.Resolver)
	}
	var cmd cli.Command = cli.Reader(func(ctx context.Context, env *cli.Env, s klips.Stack) error {
		c.DebugStack(env, s)
		return show(ctx, env, s)
	})
	if server {
		cmd = cli.Func(func(ctx context.Context, env *cli.Env) error { return serve(ctx, env, &c, at) })
	}
	return c.Command(env, App, err, cmd)
}

// show prints the metrics. If a table cannot be read to its end, the text has no end.
func show(ctx context.Context, env *cli.Env, s klips.Stack) error {
	t, err := read(ctx, s, env.Version())
	if err != nil {
		return err
	}
	err = cli.Print(env, func(w io.Writer) error { return t.write(w, openmetrics.OpenMetrics) })
	var failed *readError
	if errors.As(err, &failed) {
		return failed.err
	}
	return err
}

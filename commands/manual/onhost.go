package manual

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// The options of all applets that look for connections.
var (
	configOption = getopt.Option{Name: "config", Arg: "FILE", Help: "look in FILE only", Values: []string{"<file>"}}
	showOption   = getopt.Option{Name: "show", Help: "print the commands on standard error as they are run, without keys"}
)

// connOperand stands for the names of connections.
var connOperand = []string{"<conn>"}

// setConfig sets the value of the option config.
func setConfig(config *string, value string) error {
	if value == "" {
		return cli.Usagef("--config: there is no file name")
	}
	*config = value
	return nil
}

// onHost returns a command that works on a host and its network, which a test can replace;
// nil: this host. An interrupt ends ctx.
func onHost(h host.Host, n host.Network, run func(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error) cli.Command {
	return cli.Func(func(ctx context.Context, env *cli.Env) error {
		if h == nil {
			h, n = host.This(ctx, env)
		}
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return run(ctx, env, h, n)
	})
}

// Package natt is the applet natt: it holds UDP ports on which the kernel's stack
// receives UDP-encapsulated ESP (RFC 3948).
package natt

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// port is the default port, that of RFC 3948.
const port = 4500

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "natt",
		Short:    "receive UDP-encapsulated ESP on a kernel's stack",
		Synopsis: []string{"[--nonike] [--json] [PORT ...]"},
		Options: append([]getopt.Option{
			{Name: "nonike", Help: "the form of the drafts before RFC 3948"},
			cli.JSONOption("the ports"),
		}, cli.CommonOptions()...),
		Notes: func() string {
			return "PORT is a UDP port, 4500 without one. The command ends when it is interrupted.\n"
		},
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	c := cli.Common{TakesOperands: true}
	form := klips.NATTNonESP
	err := c.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(string, string) error {
		form = klips.NATTNonIKE
		return nil
	})
	ports := []uint16{port}
	if err == nil && len(c.Operands) > 0 {
		ports, err = parse(c.Operands)
	}
	return c.Command(env, App, err, cli.Reader(func(ctx context.Context, env *cli.Env, s klips.Stack) error {
		c.DebugStack(env, s)
		return hold(ctx, env, s, ports, form, c.JSON)
	}))
}

// hold holds ports until a signal arrives.
func hold(ctx context.Context, env *cli.Env, s klips.Stack, ports []uint16, form klips.NATTType, asJSON bool) error {
	if !s.Info().Has(klips.CapHoldPort) {
		return fmt.Errorf("stack %s opens the ports of its SAs itself; this is for the stacks xfrm and klips (--stack)", s.Info().Name)
	}
	list := output.NattList{Head: output.NewHead(s.Info().Name)}
	for _, n := range ports {
		held, err := klips.Do(ctx, s, klips.HoldPort{Port: n, Form: form})
		if err != nil {
			return fmt.Errorf("UDP port %d: %s", n, explain.Cause(err))
		}
		list.Ports = append(list.Ports, output.Port{Port: n, Form: form.String(), IPv6: !held.OnlyIPv4})
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if asJSON {
		err = output.Print(env, list)
	} else {
		err = cli.Print(env, func(w io.Writer) error { return write(w, list.Ports) })
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// write prints ports for people.
func write(w io.Writer, ports []output.Port) error {
	for _, p := range ports {
		only := ""
		if !p.IPv6 {
			only = ", for IPv4 only"
		}
		fmt.Fprintf(w, "receiving ESP on UDP port %d%s\n", p.Port, only)
	}
	return nil
}

// parse parses port numbers.
func parse(words []string) (ports []uint16, err error) {
	for _, w := range words {
		n, err := strconv.ParseUint(w, 0, 16)
		if err != nil || n == 0 {
			return nil, cli.Usagef("%s: not a UDP port, 1 to 65535", quote.Value(w))
		}
		if slices.Contains(ports, uint16(n)) {
			return nil, cli.Usagef("%s: it was given twice", quote.Value(w))
		}
		ports = append(ports, uint16(n))
	}
	return ports, nil
}

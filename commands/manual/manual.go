// Package manual is the applet that brings the manually keyed connections of ipsec.conf
// up and down, with the commands of the other applets.
//
// A conn is parsed into a connection. An operation on a connection is a plan: a list of
// changes of the stack, calls of scripts and changes of routes. The plan is printed or
// carried out.
package manual

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "manual",
		Short: "bring connections of ipsec.conf with keys in it up and down",
		Synopsis: []string{
			"[--show] [--union] [--config FILE] --up NAME ...",
			"[--show] [--union] [--config FILE] --down [--unroute] NAME ...",
			"[--show] [--union] [--config FILE] --route NAME ...",
			"[--show] [--union] [--config FILE] --unroute NAME ...",
			"[--show] --renew [NAME ...]",
			"--showonly [--other] [--iam ADDR@IFACE] [--union] [--config FILE] --up NAME ...",
		},
		Options: append([]getopt.Option{
			{Name: "up", Help: "make the SAs, the eroute and the route of the connection"},
			{Name: "down", Help: "remove its SAs and its eroute; the route stays"},
			{Name: "route", Help: "make its route only; packets without an eroute are dropped"},
			{Name: "unroute", Help: "remove its route; with --down after everything else"},
			{Name: "renew", Whole: true, Help: "set up connections again whose %defaultroute has changed"},
			{Name: "config", Arg: "FILE", Help: "read FILE instead of " + environ.DefaultConf, Values: []string{"<file>"}},
			{Name: "noinclude", Help: "ignore include lines"},
			{Name: "union", Help: "the names are parts of one connection"},
			{Name: "iam", Arg: "ADDR@IFACE", Help: "this host is the end with this address, on this virtual device", Values: nil},
			{Name: "show", Help: "print the commands on standard error as they are run, without keys"},
			{Name: "showonly", Help: "run nothing; print the commands for sh, with keys"},
			{Name: "follow", Arg: "WHEN", Whole: true, Hidden: true, Help: "renew when the default route changes, until no connection follows it or the daemon ends"},
			{Name: "other", Help: "with --showonly: what the other end does"},
		}, cli.CommonOptions()...),
		Notes: notes,
		Parse: func(env *cli.Env, args []string) (cli.Command, error) { return command(env, args, nil, nil) },
	}
}

func notes() string {
	return "NAME is a conn section of the file. Several make one connection together.\n" +
		"With --renew each NAME is a connection; without one it is all that follow\n%defaultroute.\n"
}

// A request is a parsed command line.
type request struct {
	cli.Common
	operation      string
	names          []string
	config         string
	me             identity
	loader         conf.Loader
	show, showOnly bool
	other          bool
	follow         string // when to begin, for operation follow
	obsolete       bool   // it has the old form, NAME OPERATION
	ifUp           bool   // only if the connection is up, at least partly
}

func parse(env *cli.Env, args []string) (*request, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(name, value string) error {
		switch name {
		case "config":
			if value == "" {
				return cli.Usagef("--config: there is no file name")
			}
			r.config = value
		case "noinclude":
			r.loader.NoInclude = true
		case "union": // several names are always parts of one connection
		case "iam":
			var err error
			if r.me, err = parseIdentity(value); err != nil {
				return cli.Usagef("--iam %s: %v", quote.Value(value), err)
			}
		case "show":
			r.show = true
		case "showonly":
			r.showOnly = true
		case "other":
			r.other = true
		case "follow":
			if value != followed.Now && value != followed.Next {
				return cli.Usagef("--follow %s: want %s or %s", quote.Value(value), followed.Now, followed.Next)
			}
			r.operation, r.follow = "follow", value
		default:
			op, ok := together(r.operation, name)
			if !ok {
				return cli.Usagef("--%s after --%s; one at a time", name, r.operation)
			}
			r.operation = op
		}
		return nil
	})
	if err != nil || r.Help || r.Version {
		return r, err
	}
	r.names = r.Operands
	if n := len(r.names); r.operation == "" && n > 1 && slices.Contains(operations[:], r.names[n-1]) {
		r.operation, r.names, r.obsolete = r.names[n-1], r.names[:n-1], true
	}
	switch {
	case r.operation == "":
		return r, cli.Usagef("what to do is missing; give one of --up, --down, --route and --unroute")
	case r.operation == "renew" && r.config != "":
		return r, cli.Usagef("--config does not go with --renew: each connection has the file that it was made from")
	case r.operation == "renew" && r.showOnly:
		return r, cli.Usagef("--showonly does not go with --renew; --show does")
	case len(r.names) == 0 && r.operation != "renew" && r.operation != "follow":
		return r, cli.Usagef("--%s needs a connection name", r.operation)
	case r.other && !r.showOnly:
		return r, cli.Usagef("--other goes with --showonly; this host is not the other end")
	}
	r.config = cmp.Or(r.config, environ.DefaultConf)
	for _, n := range r.names {
		if err := conf.CheckName(n); err != nil {
			return r, cli.Usagef("connection: %v", err)
		}
	}
	return r, nil
}

// together returns the combined operation of two operations; ok is false if there is
// none.
func together(a, b string) (op string, ok bool) {
	switch {
	case a == "" || a == b || a == downUnroute && (b == "down" || b == "unroute"):
		return cmp.Or(a, b), true
	case a == "down" && b == "unroute", a == "unroute" && b == "down":
		return downUnroute, true
	}
	return "", false
}

// command returns the applet's command for a host, which a test can replace; nil: this
// host.
func command(env *cli.Env, args []string, h host, n network) (cli.Command, error) {
	r, err := parse(env, args)
	return r.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		if h == nil {
			h, n = system{ctx, env}, hostNetwork{}
		}
		return r.run(ctx, env, h, n)
	}))
}

func (r *request) run(ctx context.Context, env *cli.Env, h host, n network) error {
	if r.obsolete {
		cli.Notef(env, "this form is obsolete; write --%s %s", r.operation, strings.Join(r.names, " "))
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch r.operation {
	case "renew":
		return renew(ctx, env, r, h, n)
	case "follow":
		rundir, err := environ.Rundir(env.Getenv)
		if err != nil {
			return err
		}
		return followed.Follow(ctx, rundir, r.follow, func(ctx context.Context) {
			if err := renew(ctx, env, r, h, n); err != nil && ctx.Err() == nil {
				fmt.Fprintln(env.Err, "ipsec manual:", explain.Line(err))
			}
		})
	}
	f, err := configure(r.loader, r.config, h, r.me)
	if err != nil {
		return err
	}
	if r.showOnly {
		x, err := r.prepare(env, n, f, true)
		if err != nil {
			return err
		}
		return cli.Print(env, func(w io.Writer) error {
			return x.plan.write(w, env.StackName, !strings.HasPrefix(r.operation, "down"))
		})
	}
	_, err = r.carryOut(ctx, env, h, n, f)
	return err
}

// prepare reads the connection, prints notes about it if that is wanted, and checks the
// operation as far as possible without a stack.
func (r *request) prepare(env *cli.Env, n network, f *configuration, notes bool) (*executor, error) {
	k, c, err := f.connection(r.names, r.other)
	if err != nil {
		return nil, err
	}
	if notes {
		f.notes(env, k)
	}
	if r.showOnly && env.StackName == "klips" {
		k.copyTOS = false // a KLIPS kernel has only the knob
	}
	x := newExecutor(env, k, c, n, r.show)
	x.plan = makePlan(k, r.operation, nil)
	if err := x.try(); err != nil {
		return nil, about(c, err)
	}
	return x, nil
}

// carryOut carries out the operation on the connection.
func (r *request) carryOut(ctx context.Context, env *cli.Env, h host, n network, f *configuration) (*executor, error) {
	x, err := r.prepare(env, n, f, true)
	if err != nil {
		return nil, err
	}
	k := x.conn
	var dir *followed.Dir
	if k.follows {
		if dir, err = h.follow(); err != nil {
			x.note("it will not be made again when the default route changes: %s", explain.Line(err))
		} else {
			defer dir.Close()
		}
	}
	at, err := x.look(ctx)
	if err != nil {
		return nil, err
	}
	operation := r.operation
	if k.attaches && operation == "up" && at.isUp() {
		if operation = "route"; at.isRouted(k) {
			x.note("it is up already")
			return x, nil
		}
	}
	if own, _, _ := at.sort(); r.ifUp && len(own) == 0 {
		return x, nil
	}
	if err := x.operate(ctx, operation, at, f); err != nil {
		return nil, about(x.of, err)
	}
	if dir != nil {
		if err := r.remember(dir, k); err != nil {
			x.note("it will not be made again when the default route changes: %s", explain.Line(err))
		}
		if operation == "up" || operation == "route" {
			if err := h.startFollowing(); err != nil {
				x.note("it will not be made again when the default route changes: %s", explain.Line(err))
			}
		}
	}
	return x, x.advise(ctx)
}

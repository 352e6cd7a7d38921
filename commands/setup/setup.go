// Package setup is the applet setup: it starts and stops the embedded stack's daemon,
// removes on a kernel's stack what commands have made, and prints the status of a
// stack.
package setup

import (
	"context"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips/classic"
)

// A Sequel is what follows an action of the applet.
type Sequel func(context.Context, *cli.Env) error

// App returns the applet. boot is called when a stack has started that has nothing yet, and
// apply after a reload; nil: nothing is called.
func App(boot, apply Sequel) *cli.App {
	return &cli.App{
		Name:     "setup",
		Short:    "start, stop or examine a stack",
		Synopsis: []string{"start", "stop", "restart", "force-reload", "condrestart", "try-restart", "reload", "status [--json]", "set KNOB=VALUE ..."},
		Notes:    notes,
		Options: append([]getopt.Option{
			{Name: "json", Help: "print the status as a JSON object, see ipsec_json(5)"},
			{Name: "start", Help: "the same as start", Hidden: true},
			{Name: "stop", Help: "the same as stop", Hidden: true},
			{Name: "restart", Help: "the same as restart", Hidden: true},
			{Name: "status", Help: "the same as status", Hidden: true},
		}, cli.CommonOptions()...),
		Parse: func(env *cli.Env, args []string) (cli.Command, error) { return command(env, args, boot, apply) },
	}
}

// exitStopped is the exit status of "status" when no daemon runs, as in LSB init
// scripts.
const exitStopped = 3

// actions are the actions of setup.
var actions = [...]string{"start", "stop", "restart", "force-reload", "condrestart", "try-restart", "reload", "status", "set"}

func notes() string {
	return `Knobs have these values after a start (stack klips: after one that loads the
module); most are 0 or 1:
  expire_unused=1            lifetimes in seconds end though nothing is sent; stack
                             user only
  icmp=1                     tell senders of packets that will be too long
  ike_bypass=peers           what passes eroutes as IKE: only what key daemons
                             send to peers, or as with KLIPS all from ports 500
                             and 4500 (klips); stack user only
  inbound_policy_check=1     check source, group and addresses of what arrives
  inbound_policy_required=0  take nothing through a tunnel without eroute --addin;
                             stack user only
  mss=0                      lower the segment size that TCP announces to what fits;
                             stack user only
  mtu_rule=exact             what is too long when protected: what does not fit, or
                             as with KLIPS some bytes less (klips); stack user only
  natt_keepalive=20          seconds after which a quiet UDP encapsulation gets a
                             NAT keepalive, 0 for none; stack user only
  tos=1                      outer headers have TOS 0, not that of the packet
`
}

func command(env *cli.Env, args []string, boot, apply Sequel) (cli.Command, error) {
	app := func() *cli.App { return App(boot, apply) }
	common := cli.Common{TakesOperands: true}
	var words []string
	err := common.Parse(app().Options, args, getopt.EnvMode(env.Getenv), func(name, _ string) error {
		words = append(words, name)
		return nil
	})
	words = append(words, common.Operands...)
	switch {
	case err != nil || common.Help || common.Version:
	case len(words) == 0:
		err = cli.Usagef("what to do is missing: %s", strings.Join(actions[:], ", "))
	case len(words) > 1 && words[0] != "set":
		err = cli.Usagef("one thing at a time: %s and %s were given", quote.Value(words[0]), quote.Value(words[1]))
	case common.JSON && words[0] != "status":
		err = cli.Usagef("--json goes with status only")
	}
	return common.Command(env, app, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		fresh, err := run(ctx, env, words, common.JSON)
		if err == nil && fresh && boot != nil {
			err = boot(ctx, env)
		}
		if err == nil && words[0] == "reload" && apply != nil {
			err = apply(ctx, env)
		}
		return err
	}))
}

// run carries out the action in the first word. fresh: a stack has started that has
// nothing yet.
func run(ctx context.Context, env *cli.Env, words []string, asJSON bool) (fresh bool, err error) {
	s, err := choose(env)
	if err != nil {
		return false, err
	}
	// starting makes a function for opening of one that can start a stack.
	starting := func(f func(context.Context) (bool, error)) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			fresh, err = f(ctx)
			return err
		}
	}
	switch words[0] {
	case "start":
		return s.start(ctx)
	case "stop":
		return false, opening(ctx, env, hostNetwork{}, append(s.held(ctx), guarded()...), s.stop)
	case "restart", "force-reload":
		err = opening(ctx, env, hostNetwork{}, s.held(ctx), starting(s.restart))
		return fresh, err
	case "condrestart", "try-restart":
		err = opening(ctx, env, hostNetwork{}, s.held(ctx), starting(s.condrestart))
		return fresh, err
	case "reload":
		return s.reload(ctx)
	case "set":
		return false, s.set(ctx, words[1:])
	case "status":
		return false, s.status(ctx, asJSON)
	}
	if near := getopt.Nearest(words[0], actions[:]); near != "" {
		return false, cli.Usagef("%s: no such action; did you mean %s?", quote.Value(words[0]), near)
	}
	return false, cli.Usagef("%s: no such action; there are %s", quote.Value(words[0]), strings.Join(actions[:], ", "))
}

// Ensure starts the stack that env selects, unless it runs.
func Ensure(ctx context.Context, env *cli.Env) error {
	s, err := choose(env)
	if err != nil {
		return err
	}
	return s.ensure(ctx)
}

// choose returns the stack that env selects.
func choose(env *cli.Env) (service, error) {
	switch env.StackName {
	case "", "auto", "user":
		rundir, err := environ.Rundir(env.Getenv)
		if err != nil {
			return nil, err
		}
		return daemon{env, rundir, environ.Statedir(env.Getenv), usual}, nil
	case "klips":
		return kernel{env, classic.Load}, nil
	}
	return kernel{env: env}, nil
}

// A service is a stack that can be started and stopped. fresh: it has started, and has
// nothing yet.
type service interface {
	start(context.Context) (fresh bool, err error)
	ensure(context.Context) error // as start; that it runs already gets no note
	stop(context.Context) error
	restart(context.Context) (fresh bool, err error)
	condrestart(context.Context) (fresh bool, err error) // as restart if it runs, else nothing
	reload(context.Context) (fresh bool, err error)      // as start; keeps what commands have made
	held(context.Context) []netip.Prefix                 // destinations that it protects without a route
	set(ctx context.Context, knobs []string) error       // each like tos=0; all or none
	// status prints what runs. An *[cli.ExitError] means that nothing runs.
	status(ctx context.Context, asJSON bool) error
}

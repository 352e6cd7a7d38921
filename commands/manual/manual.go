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
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
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
	me             host.Identity
	loader         conf.Loader
	show, showOnly bool
	other          bool
	follow         string           // when to begin, for operation follow
	obsolete       bool             // it has the old form, NAME OPERATION
	ifUp           bool             // only if the connection is up, at least partly
	with           []klips.Selector // the flows of all connections of the same operation
	known          *connection      // as it was made; nil: the file has the connection
	followDir      *followed.Dir    // locked by the caller, together with records
	records        *made.Dir        // locked by the caller; nil: not
}

func parse(env *cli.Env, args []string) (*request, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(name, value string) error {
		switch name {
		case "config":
			return setConfig(&r.config, value)
		case "noinclude":
			r.loader.NoInclude = true
		case "union": // several names are always parts of one connection
		case "iam":
			var err error
			if r.me, err = host.ParseIdentity(value); err != nil {
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
func command(env *cli.Env, args []string, h host.Host, n host.Network) (cli.Command, error) {
	r, err := parse(env, args)
	return r.Command(env, App, err, onHost(h, n, r.run))
}

func (r *request) run(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
	if r.obsolete {
		cli.Notef(env, "this form is obsolete; write --%s %s", r.operation, strings.Join(r.names, " "))
	}
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
		if err := x.Plan.Reveal(); err != nil {
			return err
		}
		return cli.Print(env, func(w io.Writer) error {
			return x.Plan.Write(w, env.StackName, !strings.HasPrefix(r.operation, "down"))
		})
	}
	_, err = r.carryOut(ctx, env, h, n, f)
	return err
}

// prepare reads the connection, prints notes about it if that is wanted, and checks the
// operation as far as possible without a stack.
func (r *request) prepare(env *cli.Env, n host.Network, f *configuration, notes bool) (*executor, error) {
	if r.known != nil {
		x := newExecutor(env, r.known, nil, n, r.show)
		return x, x.about(r.known.checkScript())
	}
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
	x.Plan = makePlan(k, r.operation, nil)
	if err := cmp.Or(k.checkScript(), x.Try()); err != nil {
		return nil, x.about(err)
	}
	return x, nil
}

// carryOut carries out the operation on the connection.
func (r *request) carryOut(ctx context.Context, env *cli.Env, h host.Host, n host.Network, f *configuration) (*executor, error) {
	x, err := r.prepare(env, n, f, true)
	if err != nil {
		return nil, err
	}
	if err := r.perform(ctx, h, x, f); err != nil {
		return nil, err
	}
	return x, x.Advise(ctx)
}

// perform carries out the operation on the connection of an executor, and records it.
func (r *request) perform(ctx context.Context, h host.Host, x *executor, f *configuration) error {
	var dir *followed.Dir
	var err error
	makes := r.operation == "up" || r.operation == "route"
	// What is unrouted may have followed the default route before its file was changed.
	if unroutes := r.operation == "unroute" || r.operation == downUnroute; r.records != nil {
		dir = r.followDir
	} else if x.conn.follows || unroutes {
		if dir, err = h.Follow(makes); err == nil {
			defer dir.Close()
		} else if !unroutes {
			x.Note("it will not be made again when the default route changes: %s", explain.Line(err))
		}
	}
	l, err := r.recall(h, x.conn.name, makes)
	if err != nil {
		x.Note("what is made is not recorded, so that later commands do not know it: %s", explain.Line(err))
	}
	if r.records == nil {
		defer l.close()
	}
	at, err := x.look(ctx)
	if err != nil {
		return err
	}
	at.with = r.with
	if at, err = x.asMade(r.operation, at, l); err != nil {
		return x.about(err)
	}
	k, operation := x.conn, r.operation
	up := at.someUp()
	if operation == "up" && r.records == nil { // a survey has looked at all connections
		if err := l.oneMTU(k); err != nil {
			return x.about(err)
		}
	}
	switch {
	case r.ifUp && !up:
		return nil
	case k.attaches && operation == "up" && at.isUp():
		if err := x.sameKeys(l); err != nil {
			return x.about(err)
		}
		if l != nil && l.was == nil {
			if err := x.adopt(ctx, at, f); err != nil {
				return x.about(err)
			}
			return r.keep(h, x, dir, l, up)
		}
		if operation = "route"; at.isRouted(k) && !at.lacksMTU(k) {
			x.Note("it is up already")
			return r.keep(h, x, dir, l, up)
		}
	}
	if operation == "up" {
		if err := x.raiseEpoch(h); err != nil {
			return x.about(err)
		}
	}
	if err := x.operate(ctx, operation, at, f); err != nil {
		return x.about(err)
	}
	if err := x.rest(ctx, operation, at, l); err != nil {
		return x.about(err)
	}
	return r.keep(h, x, dir, l, up)
}

// rest removes what an operation leaves of other forms of the connection: routes, SAs that
// are being changed, and what keeps flows of earlier forms closed.
func (x *executor) rest(ctx context.Context, operation string, at *situation, l *ledger) error {
	x.Plan.Steps = nil
	switch old := l.former(); operation {
	case "up", "route":
		if old != nil {
			x.Plan.Steps = x.conn.dropRoutes(old, at.of(old))
		}
	case "down", downUnroute:
		x.Plan.Steps = append(l.dropAside(at), l.mtuBack(nil, x.Net)...)
	}
	if operation == "unroute" || operation == downUnroute {
		x.Plan.Steps = append(x.Plan.Steps, l.openFormer(x.conn)...)
	}
	_, _, errs := x.Each(ctx)
	return errors.Join(errs...)
}

// recall returns the record of a connection, as the function recall does. The records can
// be locked already.
func (r *request) recall(h host.Host, name string, makeIt bool) (*ledger, error) {
	if r.records != nil {
		return readLedger(r.records, name)
	}
	return recall(h, name, makeIt)
}

// asMade returns the situation of the connection as it was made, if that differs from the
// file. What is up in another form is taken down in that form, and must not be brought up
// in the new one.
func (x *executor) asMade(operation string, at *situation, l *ledger) (*situation, error) {
	old := l.former()
	if old == nil {
		return at, nil
	}
	if at = x.sameEpoch(old, at); old.form() == x.conn.form() {
		return at, nil
	}
	was := at.of(old)
	switch {
	case operation != "up" && operation != "route":
		x.conn = old
		return was, nil
	case was.someUp():
		return nil, fmt.Errorf("it is up in another form: %v; %s", firstDifference(old, x.conn), x.conn.changeWord())
	}
	return at, nil
}

// sameEpoch gives the connection of a file the epoch that it was made with, if that is a
// later one, and returns the situation as seen from it.
func (x *executor) sameEpoch(old *connection, at *situation) *situation {
	if !x.conn.catchUp(old) {
		return at
	}
	return at.of(x.conn)
}

// raiseEpoch stores the epoch of a connection before packets are sent with its keys: after
// a crash the machine must not come back with earlier ones.
func (x *executor) raiseEpoch(h host.Host) error {
	k := x.conn
	if k.master.Value == "" || k.epoch == 0 {
		return nil
	}
	if err := h.RaiseEpoch(k.name, k.epoch); err != nil {
		return fmt.Errorf("the epoch cannot be stored: %w", err)
	}
	return nil
}

// sameKeys returns an error if the connection was made with other keys.
func (x *executor) sameKeys(l *ledger) error {
	if l == nil || l.was == nil || len(l.was.Keys.Sum) == 0 {
		return nil
	}
	keys, err := x.keys()
	defer step.ClearKeys(keys)
	if err == nil && !l.was.Keys.Same(keys) {
		err = fmt.Errorf("it is up with other keys; %s", x.conn.changeWord())
	}
	return err
}

// keep records an operation that was carried out.
func (r *request) keep(h host.Host, x *executor, dir *followed.Dir, l *ledger, up bool) error {
	k := x.conn
	if l != nil {
		x.OnTakeBack(restoring(r.records, l.dir, h.Made, k.name))
	}
	if err := l.record(r.operation, x, r.config, up); err != nil {
		x.Note("what is made is not recorded, so that later commands do not know it: %s", explain.Line(err))
	}
	if dir == nil {
		return nil
	}
	x.OnTakeBack(restoring(r.followDir, dir, h.Follow, k.name))
	if err := r.remember(dir, k); err != nil {
		x.Note("it will not be made again when the default route changes: %s", explain.Line(err))
	}
	if k.follows && (r.operation == "up" || r.operation == "route") {
		if err := h.StartFollowing(); err != nil {
			x.Note("it will not be made again when the default route changes: %s", explain.Line(err))
		}
	}
	return nil
}

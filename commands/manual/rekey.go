package manual

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips/syntax"
)

// retire is the last stage: the old SAs go.
const retire made.Stage = "retire"

// stages are the stages of a rekey, in order.
var stages = []made.Stage{made.Receive, made.Send, retire}

// defaultWait is how long a whole rekey waits for the other end, in seconds.
const defaultWait = 10

// Rekey returns the applet that gives a connection new SAs, make before break.
func Rekey() *cli.App {
	a := &cli.App{
		Name: "rekey", Short: "replace the keys of a connection without losing packets", Operands: connOperand,
		Synopsis: []string{
			"[--epoch N] [--wait SECONDS | --at TIME] [--show] [--config FILE] NAME",
			"--stage receive [--epoch N] [--show] [--config FILE] NAME",
			"--stage send [--show] [--config FILE] NAME",
			"--stage retire [--force] [--show] [--config FILE] NAME",
		},
		Options: append([]getopt.Option{
			{Name: "stage", Arg: "STAGE", Help: "do one stage only: receive, send or retire", Values: []string{"receive", "send", "retire"}},
			{Name: "epoch", Arg: "N", Help: "the epoch of the new keys; without it, the file's if it is later, else the next one"},
			{Name: "wait", Arg: "SECONDS", Help: fmt.Sprintf("how long to wait for the other end before each next stage (%d)", defaultWait)},
			{Name: "at", Arg: "TIME", Help: "send by the new SAs at this time (RFC 3339, 2026-12-01T03:00:00Z)"},
			{Name: "force", Help: "remove the old SAs even if the peer still sends by them"},
			configOption, showOption,
		}, cli.CommonOptions()...),
		Notes: func() string { return verbNotes },
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return rekeyCommand(env, a, args, nil, nil, hostClock{})
	}
	return a
}

// A clock waits. A test can replace it.
type clock interface {
	now() time.Time
	// sleep returns ctx.Err() if ctx ends before.
	sleep(ctx context.Context, d time.Duration) error
}

type hostClock struct{}

func (hostClock) now() time.Time { return time.Now() }

func (hostClock) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A rekey is the parsed command line.
type rekey struct {
	cli.Common
	name, config string
	stage        made.Stage // "": all
	epoch        uint32
	given        bool // the epoch
	wait         time.Duration
	at           time.Time
	force, show  bool

	late  bool // the last stage was refused because the peer is not as far
	past  bool // it was refused because the connection has passed it
	env   *cli.Env
	host  host.Host
	net   host.Network
	clock clock
}

func parseRekey(env *cli.Env, app *cli.App, args []string) (*rekey, error) {
	r := &rekey{wait: defaultWait * time.Second}
	waits := false
	r.TakesOperands = true
	err := r.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(option, value string) error {
		switch option {
		case "stage":
			if r.stage = made.Stage(value); !slices.Contains(stages, r.stage) {
				return cli.Usagef("--stage %s: want receive, send or retire", quote.Value(value))
			}
		case "epoch":
			n, err := syntax.ParseNumber(value, 10, math.MaxUint32)
			if err != nil {
				return cli.Usagef("--epoch %s: %v", quote.Value(value), err)
			}
			r.epoch, r.given = uint32(n), true
		case "wait":
			n, err := syntax.ParseNumber(value, 10, 24*60*60)
			if err != nil {
				return cli.Usagef("--wait %s: %v", quote.Value(value), err)
			}
			r.wait, waits = time.Duration(n)*time.Second, true
		case "at":
			var err error
			if r.at, err = time.Parse(time.RFC3339, value); err != nil {
				return cli.Usagef("--at %s: write a date and a time as in 2026-12-01T03:00:00Z", quote.Value(value))
			}
		case "force":
			r.force = true
		case "config":
			return setConfig(&r.config, value)
		case "show":
			r.show = true
		}
		return nil
	})
	if err != nil || r.Help || r.Version {
		return r, err
	}
	switch {
	case len(r.Operands) == 0:
		return r, cli.Usagef("which connection is missing: give a name")
	case len(r.Operands) > 1:
		return r, cli.Usagef("%s after %s: one connection at a time", quote.Value(r.Operands[1]), quote.Value(r.Operands[0]))
	case r.given && (r.stage == made.Send || r.stage == retire):
		return r, cli.Usagef("--epoch goes with the first stage; --stage %s has that of the SAs that were made", r.stage)
	case r.force && r.stage != retire:
		return r, cli.Usagef("--force goes with --stage retire")
	case waits && !r.at.IsZero():
		return r, cli.Usagef("--wait and --at exclude each other: --at is when both ends send by the new SAs")
	case r.stage != "" && (waits || !r.at.IsZero()):
		return r, cli.Usagef("--stage does not wait; leave --wait and --at out")
	}
	r.name = r.Operands[0]
	return r, checkNames(r.Operands)
}

// rekeyCommand returns the command for a host, its network and its clock, which a test can
// replace; nil: this host.
func rekeyCommand(env *cli.Env, app *cli.App, args []string, h host.Host, n host.Network, c clock) (cli.Command, error) {
	r, err := parseRekey(env, app, args)
	return r.Command(env, func() *cli.App { return app }, err, onHost(h, n, func(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
		r.env, r.host, r.net, r.clock = env, h, n, c
		if r.stage != "" {
			return r.do(ctx, r.stage)
		}
		return r.all(ctx)
	}))
}

// all does all stages, and waits for the other end between them.
func (r *rekey) all(ctx context.Context) error {
	if !r.at.IsZero() && !r.at.After(r.clock.now()) {
		return fmt.Errorf("--at %s: it has passed", r.at.Format(time.RFC3339))
	}
	if err := r.do(ctx, made.Receive); err != nil {
		return err
	}
	pause := r.wait
	if !r.at.IsZero() {
		pause = r.at.Sub(r.clock.now())
		cli.Notef(r.env, "conn %s: the new SAs receive; packets are sent by them from %s on", r.name, r.at.Format(time.RFC3339))
	} else {
		cli.Notef(r.env, "conn %s: the new SAs receive; within %v the other end must do the same", r.name, pause)
	}
	if err := r.sleep(ctx, pause, made.Send); err != nil {
		return err
	}
	if err := r.do(ctx, made.Send); err != nil {
		return err
	}
	for end := r.clock.now().Add(r.wait); ; {
		err := r.do(ctx, retire)
		if !r.late || !r.clock.now().Before(end) {
			return err
		}
		if err := r.sleep(ctx, peerPoll, retire); err != nil {
			return err
		}
	}
}

// peerPoll is how often a whole rekey looks whether the peer sends by the new SAs.
const peerPoll = 200 * time.Millisecond

// sleep waits before a stage. An interruption leaves what was done: it is a state to go on
// from.
func (r *rekey) sleep(ctx context.Context, d time.Duration, next made.Stage) error {
	if r.clock.sleep(ctx, d) != nil {
		return fmt.Errorf("conn %s: interrupted; go on with ipsec rekey --stage %s %s, or drop the new SAs with ipsec down %s", r.name, next, r.name, r.name)
	}
	return nil
}

// do does one stage, for each connection of the conn.
func (r *rekey) do(ctx context.Context, stage made.Stage) error {
	fs, err := readFiles(r.env, r.host, r.config)
	if err != nil {
		return err
	}
	f, err := fs.find(r.name)
	if err != nil {
		return err
	}
	var errs, past []error
	late, names := false, f.pairs(r.name)
	for _, name := range names {
		err := r.one(ctx, stage, f, name)
		late = late || r.late
		if r.past {
			past = append(past, err)
		} else {
			errs = append(errs, err)
		}
	}
	r.late = late
	if len(past) == len(names) { // else the others had to follow
		errs = past
	}
	return errors.Join(errs...)
}

// one does one stage of one connection.
func (r *rekey) one(ctx context.Context, stage made.Stage, f *configuration, name string) error {
	req := &request{operation: "up", names: []string{name}, config: f.file.Name(), show: r.show}
	x, err := req.prepare(r.env, r.net, f, false)
	if err != nil {
		return err
	}
	l, err := recall(r.host, name, false)
	if err != nil {
		return x.about(err)
	}
	defer l.close()
	at, err := x.look(ctx)
	if err != nil {
		return x.about(err)
	}
	err = r.stageOf(ctx, stage, x, l, at, f)
	var p pastError
	r.late, r.past = errors.Is(err, errLate), errors.As(err, &p)
	return x.about(err)
}

// stageOf does one stage, after it has been checked that it does not come before another.
func (r *rekey) stageOf(ctx context.Context, stage made.Stage, x *executor, l *ledger, at *situation, f *configuration) error {
	old := l.former()
	if old == nil {
		return fmt.Errorf("it is not up, or was made by another program; ipsec up %s", r.name)
	}
	if !at.of(old).someUp() {
		return fmt.Errorf("it is not up; ipsec up %s", r.name)
	}
	switch was := l.was.Stage; {
	case stage == made.Receive && was != "":
		return pastError(fmt.Sprintf("its SAs are being replaced already, at stage %s; go on with ipsec rekey --stage %s %s", was, after(was), r.name))
	case stage == made.Send && was == "":
		return fmt.Errorf("there are no new SAs, and the peer would have none to receive by; ipsec rekey --stage receive %s on both ends first", r.name)
	case stage == made.Send && was == made.Send:
		return pastError(fmt.Sprintf("packets are sent by the new SAs already; go on with ipsec rekey --stage retire %s", r.name))
	case stage == retire && was == made.Receive:
		return fmt.Errorf("packets are still sent by the old SAs; ipsec rekey --stage send %s first", r.name)
	case stage == retire && was == "":
		return pastError(fmt.Sprintf("there are no old SAs to remove; ipsec rekey --stage receive %s begins", r.name))
	}
	switch stage {
	case made.Receive:
		return r.receive(ctx, x, old, l, at, f)
	case made.Send:
		return r.send(ctx, x, old, l, at, f)
	}
	return r.retire(ctx, x, l, at)
}

// A pastError is the refusal of a stage that a connection has passed.
type pastError string

func (e pastError) Error() string { return string(e) }

// after returns the stage after a stage.
func after(s made.Stage) made.Stage { return stages[slices.Index(stages, s)+1] }

// receive makes the new SAs from the peer.
func (r *rekey) receive(ctx context.Context, x *executor, old *connection, l *ledger, at *situation, f *configuration) error {
	k := x.conn
	switch {
	case k.shunt != "":
		return errors.New("it has no keys")
	case k.master.Value == "" && r.given:
		return errors.New("--epoch: only keys of a master key have epochs")
	case k.master.Value == "" && !apart(old, k):
		return errors.New("the file has the SPIs that are in use; give it other SPIs and keys, or a master key, which makes them")
	case k.master.Value != "":
		if err := r.next(old, k); err != nil {
			return err
		}
	}
	if old.selector() != k.selector() || old.iface != k.iface || old.mtu != k.mtu {
		return fmt.Errorf("not only its keys differ: %v; %s", firstDifference(old, k), k.changeWord())
	}
	c := &change{x: x, old: old, at: at.of(k), was: at.of(old), way: makeBefore}
	if err := c.blocked(f.of(k)); err != nil {
		return err
	}
	x.Plan.Steps = c.receive()
	if err := x.All(ctx); err != nil {
		return err
	}
	aside := k.form()
	l.was.Stage, l.was.Aside = made.Receive, &aside
	return r.put(ctx, x, l)
}

// next gives a connection the epoch of its new keys.
func (r *rekey) next(old, k *connection) error {
	switch {
	case r.given && r.epoch <= old.epoch:
		return fmt.Errorf("--epoch %d: it has epoch %d, and must get a later one", r.epoch, old.epoch)
	case r.given:
		k.epoch = r.epoch
	case k.epoch > old.epoch: // by the file
	case old.epoch == math.MaxUint32:
		return errors.New("there is no later epoch; give it another master key")
	default:
		k.epoch = old.epoch + 1
	}
	return k.checkEpoch()
}

// send makes the new SAs to the peer, and sends by them.
func (r *rekey) send(ctx context.Context, x *executor, old *connection, l *ledger, at *situation, f *configuration) error {
	k := x.conn
	k.epoch = l.was.Aside.Epoch
	if k.form() != l.aside().form() {
		return fmt.Errorf("the file has changed since the stage receive: %v; put it back, or take the connection down and up again", firstDifference(l.aside(), k))
	}
	keys, err := x.keys()
	defer step.ClearKeys(keys)
	if err != nil {
		return err
	}
	c := &change{x: x, old: old, at: at.of(k), was: at.of(old), way: makeBefore}
	for _, s := range k.sas(k.local) {
		if !c.at.object(s.id).own() {
			return fmt.Errorf("the new SA %s is gone; take the connection down and up again", s.id)
		}
	}
	if err := x.raiseEpoch(r.host); err != nil {
		return err
	}
	x.Plan.Steps = c.send()
	if err := x.All(ctx); err != nil {
		return err
	}
	aside := old.form()
	l.was.Form, l.was.Keys = k.form(), made.CheckKeys(keys)
	l.was.Stage, l.was.Aside = made.Send, &aside
	return r.put(ctx, x, l)
}

// put stores the record after a step. If that fails, the step is taken back.
func (r *rekey) put(ctx context.Context, x *executor, l *ledger) error {
	err := l.put(*l.was)
	if err != nil {
		x.TakeBack(context.WithoutCancel(ctx))
	}
	return err
}

// errLate is the error that the peer has sent nothing by the new SAs yet.
var errLate = errors.New("the peer has sent nothing by the new SAs yet, and what it sends by the old ones would be lost; wait for its stage send, or give --force")

// retire removes the old SAs.
func (r *rekey) retire(ctx context.Context, x *executor, l *ledger, at *situation) error {
	now, old := l.former(), l.aside()
	x.conn = now
	c := &change{x: x, old: old, at: at.of(now), was: at.of(old), way: makeBefore}
	// Without a stage, both ends have waited; then old SAs that nobody used are no sign.
	if !r.force && (c.was.received(old) || r.stage == retire) && !c.at.received(now) {
		return errLate
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	l.was.Stage, l.was.Aside = "", nil
	return l.put(*l.was)
}

// received reports whether a packet has used an SA from the peer.
func (at *situation) received(k *connection) bool {
	return slices.ContainsFunc(k.sas(k.local), func(s sa) bool { return at.sas[s.id].Used })
}

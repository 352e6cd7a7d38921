package manual

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
)

// An executor carries out a plan.
type executor struct {
	env    *cli.Env
	conn   *connection
	router router
	trace  bool
	plan   plan
}

// applets are those that plans call.
func applets(name string) *cli.App {
	switch name {
	case "spi":
		return spi.App()
	case "spigrp":
		return spigrp.App()
	}
	return eroute.App()
}

// try has the applets read the arguments of all steps, and changes nothing.
func (x *executor) try(ctx context.Context) error {
	for i := range x.plan.steps {
		s := &x.plan.steps[i]
		if s.args == nil {
			continue
		}
		env := *x.env
		if err := cli.Try(ctx, &env, applets(s.args[0]), s.args[1:]); err != nil {
			return s.failed(err)
		}
	}
	return nil
}

// run carries out one step and returns how to take it back; nil: not at all.
func (x *executor) run(ctx context.Context, s *step) (undo func(ctx context.Context) error, err error) {
	if x.trace {
		fmt.Fprintf(x.env.Err, "+ %s\n", s.text(x.env.StackName, false))
	}
	switch {
	case s.route != nil && s.remove:
		back, err := x.router.remove(*s.route)
		if err != nil {
			return nil, s.failed(routeError(s.route, err))
		}
		return func(context.Context) error {
			if x.trace {
				fmt.Fprintf(x.env.Err, "+ %s\n", routeText(s.route, false))
			}
			return s.failed(back())
		}, nil
	case s.route != nil:
		if err := x.router.add(*s.route); err != nil {
			return nil, s.failed(routeError(s.route, err))
		}
		return x.undoing([]step{{route: s.route, remove: true, ifExists: true}}), nil
	case s.script != "":
		if err := x.sh(ctx, s); err != nil {
			return nil, s.failed(err)
		}
	default:
		env := *x.env
		env.Name = "ipsec " + s.args[0]
		// A request that has been sent is waited for: what it did must be known.
		if err := applets(s.args[0]).Run(context.WithoutCancel(ctx), &env, s.args[1:]); err != nil {
			return nil, s.failed(err)
		}
	}
	if s.undo == nil {
		return nil, nil
	}
	return x.undoing(s.undo), nil
}

func (x *executor) undoing(steps []step) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var errs []error
		for i := range steps {
			if _, err := x.run(ctx, &steps[i]); err != nil && !spared(&steps[i], err) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

// sh calls a script. What it prints is ours.
func (x *executor) sh(ctx context.Context, s *step) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", s.script)
	cmd.Env = slices.Concat(os.Environ(), x.plan.environ, []string{"PLUTO_VERB=" + s.verb})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.env.In, x.env.Out, x.env.Err
	cmd.WaitDelay = time.Second // for what the script leaves behind
	return cmd.Run()
}

// all carries out the whole plan. If a step fails, those before it are taken
// back in reverse order; the error is that of the step, and what could not be
// taken back is told on standard error.
func (x *executor) all(ctx context.Context) error {
	var undo []func(context.Context) error
	err := x.steps(ctx, &undo)
	if err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	for _, f := range slices.Backward(undo) {
		if uerr := f(ctx); uerr != nil {
			cli.Notef(x.env, "not taken back: %s", strings.ReplaceAll(uerr.Error(), "\n", "; "))
		}
	}
	return err
}

var errInterrupted = errors.New("interrupted; what was done has been taken back")

func (x *executor) steps(ctx context.Context, undo *[]func(context.Context) error) error {
	for i := range x.plan.steps {
		s := &x.plan.steps[i]
		if ctx.Err() != nil {
			return errInterrupted
		}
		if s.eroute {
			var err error
			if s, err = x.chooseEroute(ctx, s); err != nil {
				return err
			}
		}
		back, err := x.run(ctx, s)
		if err != nil {
			if spared(s, err) {
				continue
			}
			if ctx.Err() != nil {
				return errInterrupted
			}
			return err
		}
		if back != nil {
			*undo = append(*undo, back)
		}
	}
	return nil
}

// chooseEroute makes the step that sets the eroute one that adds it or one that
// replaces it: not all stacks replace what is not there.
func (x *executor) chooseEroute(ctx context.Context, s *step) (*step, error) {
	old, err := x.findEroute(ctx)
	if err != nil {
		return nil, err
	}
	out := *s
	if old == "" {
		out.args = x.conn.erouteArgs("--add", x.conn.said())
		out.undo = []step{{args: x.conn.label("eroute", append([]string{"--del"}, x.conn.flow()...)...), ifExists: true}}
	} else {
		out.undo = []step{{args: x.conn.erouteArgs("--replace", old)}}
	}
	return &out, nil
}

// findEroute returns the SAID of the eroute for the connection's packets; it
// is empty if there is none.
func (x *executor) findEroute(ctx context.Context) (said string, err error) {
	stack, err := x.env.Stack(ctx)
	if err != nil {
		return "", err
	}
	defer stack.Close()
	list, err := stack.Eroutes(ctx)
	if err != nil {
		return "", fmt.Errorf("eroutes: %w", err)
	}
	for _, e := range list {
		if e.Selector == x.conn.selector() {
			return e.ID.String(), nil
		}
	}
	return "", nil
}

// active returns what is there of the connection; empty: nothing.
func (x *executor) active(ctx context.Context) (what string, err error) {
	stack, err := x.env.Stack(ctx)
	if err != nil {
		return "", err
	}
	defer stack.Close()
	for _, end := range []int{1 - x.conn.local, x.conn.local} {
		for _, s := range x.conn.sas(end) {
			_, err := stack.GetSA(ctx, s.id)
			if err == nil {
				return s.id.String(), nil
			}
			if !(&stepError{cause: err}).absent() {
				return "", fmt.Errorf("%s: %w", s.id, err)
			}
		}
	}
	if x.conn.shunt != "" {
		said, err := x.findEroute(ctx)
		if err == nil && said == x.conn.shunt {
			return "its eroute to " + said, nil
		}
		return "", err
	}
	return "", nil
}

// each carries out all steps, whatever becomes of those before. gone is how
// many of those that take something away found it not there.
func (x *executor) each(ctx context.Context) (gone int, errs []error) {
	for i := range x.plan.steps {
		s := &x.plan.steps[i]
		if _, err := x.run(ctx, s); spared(s, err) {
			gone++
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return gone, errs
}

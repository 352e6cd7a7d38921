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

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/conf"
)

// An executor carries out a plan.
type executor struct {
	caller *cli.Env // for messages of this applet
	env    *cli.Env // for the called applets
	conn   *connection
	of     *conf.Conn // where the connection is in its file; nil: in none
	net    network
	trace  bool
	plan   plan
	checks []check // of the called applets
	undo   []func(context.Context) error
}

// newExecutor returns an executor without a plan.
func newExecutor(caller *cli.Env, k *connection, of *conf.Conn, n network, trace bool) *executor {
	env := *caller
	env.Name, _, _ = strings.Cut(caller.Name, " --label ")
	x := &executor{caller: caller, env: &env, conn: k, of: of, net: n, trace: trace}
	env.Later = x.later
	return x
}

// try checks all steps as far as possible without a stack, and changes nothing.
func (x *executor) try() error {
	for i := range x.plan.steps {
		s := &x.plan.steps[i]
		if s.sa == nil {
			continue
		}
		cmd, _, err := x.command(s)
		if err != nil {
			return s.failed(err)
		}
		cmd.(cli.Changer).Clear()
	}
	return nil
}

// command returns the command of a step, and its environment.
func (x *executor) command(s *step) (cli.Command, *cli.Env, error) {
	env := *x.env
	env.Name = "ipsec " + s.applet()
	cmd, _, err := s.command(&env)
	return cmd, &env, err
}

// run carries out one step and returns how to undo it; nil: it cannot be undone.
func (x *executor) run(ctx context.Context, s *step) (undo func(ctx context.Context) error, err error) {
	if x.trace {
		fmt.Fprintf(x.env.Err, "+ %s\n", s.text(x.env.StackName, false))
	}
	switch {
	case s.route != nil:
		back, err := x.route(s)
		if err != nil {
			return nil, s.failed(routeError(s.route, err))
		}
		return x.undoing([]step{back}), nil
	case s.guard != nil, s.backstop != nil:
		var back []step
		if s.guard != nil {
			back, err = x.guard(ctx, s)
		} else {
			if back, err = x.backstop(s); err != nil {
				err = routeError(&routes.Route{Dst: *s.backstop}, err)
			}
		}
		if err != nil {
			return nil, s.failed(err)
		}
		return x.undoing(back), nil
	case s.device != "":
		if err := x.device(s); err != nil {
			return nil, s.failed(deviceError(s.device, err))
		}
		back := *s
		back.remove, back.ifExists = !s.remove, true
		return x.undoing([]step{back}), nil
	case s.script != "":
		if err := x.sh(ctx, s); err != nil {
			return nil, s.failed(err)
		}
	default:
		c, env, err := x.command(s)
		if err == nil {
			// Wait for the answer to a request that has been sent: its result must be
			// known.
			err = c.Run(context.WithoutCancel(ctx), env)
		}
		if err != nil {
			return nil, s.failed(err)
		}
	}
	if s.undo == nil {
		return nil, nil
	}
	return x.undoing(s.undo), nil
}

// route carries out a change of a route and returns the step that undoes it.
func (x *executor) route(s *step) (back step, err error) {
	switch {
	case s.remove:
		old, err := x.net.remove(*s.route)
		return step{route: &old}, err
	case s.replace:
		if old, ok, err := x.net.replace(*s.route); ok || err != nil {
			return step{route: &old, replace: true}, err
		}
	default:
		err = x.net.add(*s.route)
	}
	return step{route: s.route, remove: true, ifExists: true}, err
}

// device carries out a change of a device.
func (x *executor) device(s *step) error {
	switch {
	case s.address == nil:
		return x.net.setUp(s.device, !s.remove)
	case s.remove:
		return x.net.removeAddress(s.device, *s.address)
	}
	return x.net.addAddress(s.device, *s.address)
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

// sh runs a script. Its output goes to our output.
func (x *executor) sh(ctx context.Context, s *step) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", s.script)
	cmd.Env = slices.Concat(os.Environ(), x.plan.environ, []string{"PLUTO_VERB=" + s.verb})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.env.In, x.env.Out, x.env.Err
	cmd.WaitDelay = time.Second // for processes that the script leaves behind
	return cmd.Run()
}

// all carries out the whole plan. If a step fails, the earlier steps are undone in
// reverse order. The error is that of the step.
func (x *executor) all(ctx context.Context) error {
	x.undo = nil // what an earlier plan has done stays
	err := x.steps(ctx)
	if err != nil {
		x.takeBack(context.WithoutCancel(ctx))
	}
	return err
}

// takeBack undoes what the last call of all has done, in reverse order. What cannot be
// undone is reported on standard error.
func (x *executor) takeBack(ctx context.Context) {
	for _, f := range slices.Backward(x.undo) {
		if err := f(ctx); err != nil {
			cli.Notef(x.caller, "not taken back: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	x.undo = nil
}

var errInterrupted = errors.New("interrupted; what was done has been taken back")

func (x *executor) steps(ctx context.Context) error {
	for i := range x.plan.steps {
		s := &x.plan.steps[i]
		if ctx.Err() != nil {
			return errInterrupted
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
			x.undo = append(x.undo, back)
		}
	}
	return nil
}

// each carries out all steps, also after errors. of is the number of steps that remove
// something; gone is how many of them found that it was missing already.
func (x *executor) each(ctx context.Context) (gone, of int, errs []error) {
	for i := range x.plan.steps {
		s := &x.plan.steps[i]
		if s.ifExists {
			of++
		}
		if _, err := x.run(ctx, s); spared(s, err) {
			gone++
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return gone, of, errs
}

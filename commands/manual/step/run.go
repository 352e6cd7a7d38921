package step

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// A Runner carries out plans for a connection, one after another.
type Runner struct {
	// Env is for the applets that steps call, and opens the stack.
	Env *cli.Env
	Net host.Network
	// Plan is what is carried out next. The owner of the Runner sets it.
	Plan Plan
	// MTUWas is the MTU in bytes of the virtual device before a step has changed it; 0: none
	// has.
	MTUWas int

	caller *cli.Env // for messages of this applet
	name   string   // of the connection
	trace  bool
	checks []check // of the called applets
	undo   []func(context.Context) error
}

// NewRunner returns a Runner without a plan. caller is the environment of the applet that runs
// it, and name is that of the connection, for notes. trace prints the steps, without keys, on
// standard error as they are carried out.
func NewRunner(caller *cli.Env, name string, n host.Network, trace bool) *Runner {
	env := *caller
	env.Name, _, _ = strings.Cut(caller.Name, " --label ")
	r := &Runner{Env: &env, Net: n, caller: caller, name: name, trace: trace}
	env.Later = r.later
	return r
}

// Note prints a note about the connection on standard error. The arguments are those of
// [fmt.Printf].
func (r *Runner) Note(format string, args ...any) {
	cli.Notef(r.caller, "conn %s: %s", r.name, fmt.Sprintf(format, args...))
}

// Try checks all steps as far as possible without a stack, and changes nothing. The error is
// that of the first wrong step.
func (r *Runner) Try() error {
	for i := range r.Plan.Steps {
		s := &r.Plan.Steps[i]
		if s.SA == nil {
			continue
		}
		cmd, _, err := r.command(s)
		if err != nil {
			return s.failed(err)
		}
		cmd.(cli.Changer).Clear()
	}
	return nil
}

// Keys returns the keys of the SAs that a plan makes. The caller clears them with [ClearKeys].
// The error is that of the first SA whose keys cannot be read.
func (r *Runner) Keys(p Plan) (list [][]byte, err error) {
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.SA == nil {
			continue
		}
		cmd, _, err := r.command(s)
		if err != nil {
			ClearKeys(list)
			return nil, s.failed(err)
		}
		for _, key := range cmd.(interface{ Keys() [][]byte }).Keys() {
			list = append(list, bytes.Clone(key))
		}
		cmd.(cli.Changer).Clear()
	}
	return list, nil
}

// ClearKeys overwrites keys.
func ClearKeys(keys [][]byte) {
	for _, k := range keys {
		clear(k)
	}
}

// command returns the command of a step, and its environment.
func (r *Runner) command(s *Step) (cli.Command, *cli.Env, error) {
	env := *r.Env
	env.Name = "ipsec " + s.applet()
	cmd, _, err := s.command(&env)
	return cmd, &env, err
}

// run carries out one step and returns how to undo it; nil: it cannot be undone.
func (r *Runner) run(ctx context.Context, s *Step) (undo func(ctx context.Context) error, err error) {
	if r.trace {
		fmt.Fprintf(r.Env.Err, "+ %s\n", s.Text(r.Env.StackName, false))
	}
	back, err := r.do(ctx, s)
	if err != nil {
		return nil, s.failed(err)
	}
	if len(back) == 0 {
		return nil, nil
	}
	return r.undoing(back), nil
}

// do carries out one step and returns the steps that undo it.
func (r *Runner) do(ctx context.Context, s *Step) (back []Step, err error) {
	switch {
	case s.Route != nil:
		back, err := r.route(s)
		return []Step{back}, err
	case s.Guard != nil:
		return r.guard(ctx, s)
	case s.Backstop != nil:
		return r.backstop(s)
	case s.Clamp != nil && s.Remove:
		err = r.Net.RemoveClamp(*s.Clamp)
	case s.Clamp != nil:
		err = r.Net.SetClamp(*s.Clamp)
	case s.Device != "":
		back, err := r.device(s)
		return []Step{back}, err
	case s.Script != "":
		err = r.sh(ctx, s)
	default:
		var c cli.Command
		var env *cli.Env
		if c, env, err = r.command(s); err == nil {
			// Wait for the answer to a request that has been sent: its result must be
			// known.
			err = c.Run(context.WithoutCancel(ctx), env)
		}
	}
	return s.Undo, err
}

// route carries out a change of a route and returns the step that undoes it.
func (r *Runner) route(s *Step) (back Step, err error) {
	switch {
	case s.Remove:
		old, err := r.Net.Remove(*s.Route)
		return Step{Route: &old}, err
	case s.Replace:
		if old, ok, err := r.Net.Replace(*s.Route); ok || err != nil {
			return Step{Route: &old, Replace: true}, err
		}
	default:
		err = r.Net.Add(*s.Route)
	}
	return Step{Route: s.Route, Remove: true, IfExists: true}, err
}

// device carries out a change of a device and returns the step that undoes it.
func (r *Runner) device(s *Step) (back Step, err error) {
	back = *s
	back.Remove, back.IfExists = !s.Remove, true
	switch {
	case s.MTU != 0:
		back.Remove = false
		if back.MTU, err = r.Net.MTU(s.Device); err != nil || back.MTU == s.MTU {
			return back, err
		}
		r.MTUWas = cmp.Or(r.MTUWas, back.MTU)
		err = r.Net.SetMTU(s.Device, s.MTU)
	case s.Address == nil:
		err = r.Net.SetUp(s.Device, !s.Remove)
	case s.Remove:
		err = r.Net.RemoveAddress(s.Device, *s.Address)
	default:
		err = r.Net.AddAddress(s.Device, *s.Address)
	}
	return back, err
}

func (r *Runner) undoing(steps []Step) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var errs []error
		for i := range steps {
			if _, err := r.run(ctx, &steps[i]); err != nil && !spared(&steps[i], err) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

// sh runs a script. Its output goes to our output.
func (r *Runner) sh(ctx context.Context, s *Step) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", s.Script)
	cmd.Env = slices.Concat(os.Environ(), r.Plan.Environ, []string{"PLUTO_VERB=" + s.Verb})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.Env.In, r.Env.Out, r.Env.Err
	cmd.WaitDelay = time.Second // for processes that the script leaves behind
	return cmd.Run()
}

// All carries out the whole plan. If a step fails, the earlier steps are undone in
// reverse order. The error is that of the step.
func (r *Runner) All(ctx context.Context) error {
	r.undo = nil // what an earlier plan has done stays
	err := r.steps(ctx)
	if err != nil {
		r.TakeBack(context.WithoutCancel(ctx))
	}
	return err
}

// TakeBack undoes what the last call of All has done, and what OnTakeBack has added since, in reverse order. What cannot be
// undone is reported on standard error.
func (r *Runner) TakeBack(ctx context.Context) {
	for _, f := range slices.Backward(r.undo) {
		if err := f(ctx); err != nil {
			cli.Notef(r.caller, "not taken back: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	r.undo = nil
}

// OnTakeBack adds what TakeBack does first: it undoes what the caller itself has done.
func (r *Runner) OnTakeBack(undo func(context.Context) error) { r.undo = append(r.undo, undo) }

var errInterrupted = errors.New("interrupted; what was done has been taken back")

func (r *Runner) steps(ctx context.Context) error {
	for i := range r.Plan.Steps {
		s := &r.Plan.Steps[i]
		if ctx.Err() != nil {
			return errInterrupted
		}
		back, err := r.run(ctx, s)
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
			r.undo = append(r.undo, back)
		}
	}
	return nil
}

// Each carries out all steps, also after errors; but after one, what keeps a flow closed stays.
// of is the number of steps that remove something; gone is how many of them found that it was
// missing already.
func (r *Runner) Each(ctx context.Context) (gone, of int, errs []error) {
	for i := range r.Plan.Steps {
		s := &r.Plan.Steps[i]
		if s.IfExists {
			of++
		}
		if len(errs) > 0 && s.opens() {
			continue
		}
		if _, err := r.run(ctx, s); spared(s, err) {
			gone++
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return gone, of, errs
}

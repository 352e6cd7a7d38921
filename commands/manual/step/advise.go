package step

import (
	"context"

	"github.com/klips-go/ipsec/commands/internal/cli"
)

// A check is a check that an applet has asked for. All checks run after the last step:
// what is missing when an SA is made can be a later step, such as its group.
type check struct {
	name string // of the applet, in messages
	make cli.Check
}

func (r *Runner) later(name string, make cli.Check) {
	r.checks = append(r.checks, check{name, make})
}

// Advise runs the checks that the called applets have asked for, and prints their notes. The
// error is that of opening the stack.
func (r *Runner) Advise(ctx context.Context) error {
	if len(r.checks) == 0 {
		return nil
	}
	stack, err := r.Env.Stack(ctx)
	if err != nil {
		return err
	}
	defer stack.Close()
	list := make([]cli.Check, len(r.checks))
	for i, c := range r.checks {
		list[i] = c.make
	}
	env := *r.caller
	for _, n := range cli.Notes(ctx, stack, list) {
		env.Name = r.checks[n.Check].name
		cli.Notef(&env, "%s", n.Text)
	}
	return nil
}

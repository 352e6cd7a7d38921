package manual

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

func (x *executor) later(name string, make cli.Check) {
	x.checks = append(x.checks, check{name, make})
}

// advise runs the checks, and prints their notes.
func (x *executor) advise(ctx context.Context) error {
	if len(x.checks) == 0 {
		return nil
	}
	stack, err := x.env.Stack(ctx)
	if err != nil {
		return err
	}
	defer stack.Close()
	list := make([]cli.Check, len(x.checks))
	for i, c := range x.checks {
		list[i] = c.make
	}
	env := *x.caller
	for _, n := range cli.Notes(ctx, stack, list) {
		env.Name = x.checks[n.Check].name
		cli.Notef(&env, "%s", n.Text)
	}
	return nil
}

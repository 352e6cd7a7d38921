package batch

import (
	"context"

	"github.com/klips-go/ipsec/commands/internal/cli"
)

// A check is a check that a command has asked for. All checks run after the last
// command, see [cli.Notes].
type check struct {
	line int
	name string // of the command, in messages
	make cli.Check
}

// maxChecks is how many checks are kept at most: a pipe may have no end.
const maxChecks = 1 << 16

// advise runs the checks that are kept, and prints their notes.
func (x *executor) advise(ctx context.Context) {
	checks := x.checks
	x.checks = nil
	if len(checks) == 0 || ctx.Err() != nil {
		return
	}
	list := make([]cli.Check, len(checks))
	for i, c := range checks {
		list[i] = c.make
	}
	env := *x.env
	env.Err = &x.err
	for _, n := range cli.Notes(ctx, x.stack, list) {
		x.line, env.Name = checks[n.Check].line, checks[n.Check].name
		cli.Notef(&env, "%s", n.Text)
	}
}

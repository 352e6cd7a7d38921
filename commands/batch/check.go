package batch

import (
	"context"

	"github.com/klips-go/ipsec/commands/internal/cli"
)

// A check is one that a command wants. All are made at once after the last
// command, see [cli.Notes].
type check struct {
	line int
	name string // of the command, in messages
	make cli.Check
}

// maxChecks is how many checks wait at most: a pipe may never end.
const maxChecks = 1 << 16

// advise makes the checks that wait, and prints their notes.
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

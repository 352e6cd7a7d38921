package batch

import (
	"context"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// A check is one that a command wants. All are made at once after the last
// command: what is missing then is not made by a later line, and the tables are
// read once.
type check struct {
	line int
	name string // of the command, in messages
	make cli.Check
}

// maxChecks is how many checks wait at most: a pipe may never end.
const maxChecks = 1 << 16

// advise makes the checks that wait. A note that many commands give is printed
// for the first of them.
func (x *executor) advise(ctx context.Context) {
	checks := x.checks
	x.checks = nil
	if len(checks) == 0 || ctx.Err() != nil {
		return
	}
	t := &tables{stack: x.conn.stack}
	printed := map[string]bool{}
	env := *x.env
	env.Err = &x.err
	for _, c := range checks {
		for _, note := range c.make(ctx, t) {
			if printed[note] {
				continue
			}
			printed[note] = true
			x.line, env.Name = c.line, c.name
			cli.Notef(&env, "%s", note)
		}
	}
}

// tables are those of a stack, read when they are first needed.
type tables struct {
	stack  klips.Stack
	groups *klips.Groups
	err    error // of reading the SAs

	eroutes    []klips.Eroute
	targets    map[klips.Selector]klips.SAID // of the eroutes; nil until they are read
	eroutesErr error
}

func (t *tables) Group(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	if r, ok := klips.As[klips.GroupReader](t.stack); ok {
		return r.ReadGroup(ctx, id)
	}
	if t.groups == nil && t.err == nil {
		t.groups, t.err = klips.ReadGroups(ctx, t.stack)
	}
	if t.err != nil {
		return nil, t.err
	}
	return t.groups.Of(id)
}

func (t *tables) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	if t.targets == nil {
		t.eroutes, t.eroutesErr = t.stack.Eroutes(ctx)
		t.targets = make(map[klips.Selector]klips.SAID, len(t.eroutes))
		for _, e := range t.eroutes {
			t.targets[e.Selector] = e.ID
		}
	}
	return t.eroutes, t.eroutesErr
}

// HasEroute returns true also where the eroutes cannot be read: they have been
// set.
func (t *tables) HasEroute(ctx context.Context, e klips.Eroute) bool {
	_, err := t.Eroutes(ctx)
	return err != nil || t.targets[e.Selector] == e.ID
}

func (t *tables) NeedsPort(ctx context.Context, port uint16) bool {
	return cli.NeedsPort(ctx, t.stack, port)
}

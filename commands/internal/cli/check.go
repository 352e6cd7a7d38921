package cli

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// A Check looks at what a command has done, with the tables of the stack, and
// returns notes, one line each. It changes nothing.
type Check func(ctx context.Context, t Tables) []string

// Tables are what checks look at.
type Tables interface {
	// Group returns what [klips.ReadGroup] does.
	Group(ctx context.Context, id klips.SAID) ([]klips.SA, error)
	// HasEroute reports whether an eroute that was set is still there, with this
	// SAID.
	HasEroute(ctx context.Context, e klips.Eroute) bool
	// Eroutes returns all eroutes.
	Eroutes(ctx context.Context) ([]klips.Eroute, error)
	// NeedsPort reports whether ESP that comes to a UDP port is lost, because the
	// stack wants a program to have the port ([klips.CapHoldPort]), and none has.
	NeedsPort(ctx context.Context, port uint16) bool
}

// NeedsPort is that method of [Tables] for a stack.
func NeedsPort(ctx context.Context, stack klips.Stack, port uint16) bool {
	if !stack.Info().Has(klips.CapHoldPort) {
		return false
	}
	t, err := stack.Snapshot(ctx, klips.Want{Port: port})
	return err == nil && !t.PortTaken
}

// Check makes a check of what the command has just done, and prints its notes;
// where many commands are run ([Env.Later]) it is made after the last. There is
// nothing to do for a nil check.
func (env *Env) Check(ctx context.Context, stack klips.Stack, check Check) {
	if check == nil {
		return
	}
	if env.Later != nil {
		env.Later(env.Name, check)
		return
	}
	for _, note := range check(ctx, now{stack}) {
		Notef(env, "%s", note)
	}
}

// A now is the tables of a stack right after a command.
type now struct{ stack klips.Stack }

func (n now) Group(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	return klips.ReadGroup(ctx, n.stack, id)
}

func (now) HasEroute(context.Context, klips.Eroute) bool { return true }

func (n now) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	return klips.ReadEroutes(ctx, n.stack)
}

func (n now) NeedsPort(ctx context.Context, port uint16) bool { return NeedsPort(ctx, n.stack, port) }

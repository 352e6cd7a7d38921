package cli

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// A Check examines, with the tables of the stack, what a command has done. It returns
// notes, one line each, and changes nothing.
type Check func(ctx context.Context, t Tables) []string

// Tables are the tables that checks read.
type Tables interface {
	// Group returns the result of [klips.ReadGroup].
	Group(ctx context.Context, id klips.SAID) ([]klips.SA, error)
	// HasEroute reports whether an eroute that was set still exists with this SAID.
	HasEroute(ctx context.Context, e klips.Eroute) bool
	// Eroutes returns all eroutes.
	Eroutes(ctx context.Context) ([]klips.Eroute, error)
	// NeedsPort reports whether ESP that arrives at a UDP port is lost, because the
	// stack needs a program that holds the port ([klips.CapHoldPort]) and no program
	// does.
	NeedsPort(ctx context.Context, port uint16) bool
}

// NeedsPort implements the method of [Tables] for a stack.
func NeedsPort(ctx context.Context, stack klips.Stack, port uint16) bool {
	if !stack.Info().Has(klips.CapHoldPort) {
		return false
	}
	t, err := stack.Snapshot(ctx, klips.Want{Port: port})
	return err == nil && !t.PortTaken
}

// Check runs a check of what the command has just done, and prints its notes. Where one
// run carries out many commands ([Env.Later]), the check runs after the last of them. A
// nil check does nothing.
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

// A now reads the tables of a stack right after a command.
type now struct{ stack klips.Stack }

func (n now) Group(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	return klips.ReadGroup(ctx, n.stack, id)
}

func (now) HasEroute(context.Context, klips.Eroute) bool { return true }

func (n now) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	return klips.ReadEroutes(ctx, n.stack)
}

func (n now) NeedsPort(ctx context.Context, port uint16) bool { return NeedsPort(ctx, n.stack, port) }

package cli

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// A Command is a command line that has been understood.
type Command interface {
	// Run carries it out.
	Run(ctx context.Context, env *Env) error
}

// A Func is a command that is nothing but what it does.
type Func func(ctx context.Context, env *Env) error

// Run calls f.
func (f Func) Run(ctx context.Context, env *Env) error { return f(ctx, env) }

// A Reader is a command that reads from the stack, which it is given open.
type Reader func(ctx context.Context, env *Env, s klips.Stack) error

// Run opens the stack and calls f.
func (f Reader) Run(ctx context.Context, env *Env) error {
	s, err := env.Stack(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return f(ctx, env, s)
}

// A Changer is a command that changes the stack, and nothing else. Its Run is [Change].
// Who carries out several of them asks each for its changes first, see [klips.Change].
type Changer interface {
	Command
	// Changes returns what s is to do, and prints notes on what was asked for. It looks
	// at s and the host, and changes neither. The error is why this cannot be done here.
	Changes(ctx context.Context, env *Env, s klips.Stack) ([]klips.Change, error)
	// Refused puts the error that s gave to c, one of the changes, into words.
	Refused(ctx context.Context, s klips.Stack, c klips.Change, err error) error
	// Done prints what there is to print when the changes have been made, o each.
	Done(ctx context.Context, env *Env, s klips.Stack, o []klips.Outcome) error
	// Clear overwrites the keys that the command has read.
	Clear()
}

// Change carries a command out by itself.
func Change(ctx context.Context, env *Env, c Changer) error {
	defer c.Clear()
	return Reader(func(ctx context.Context, env *Env, s klips.Stack) error {
		changes, err := c.Changes(ctx, env, s)
		if err != nil {
			return err
		}
		r, err := s.Apply(ctx, changes...)
		NoteOutcomes(env, r.Outcomes)
		if err != nil {
			return c.Refused(ctx, s, changes[min(len(r.Outcomes), len(changes)-1)], err)
		}
		return c.Done(ctx, env, s, r.Outcomes)
	}).Run(ctx, env)
}

// NoteOutcomes prints the notes that a stack has given on changes.
func NoteOutcomes(env *Env, outcomes []klips.Outcome) {
	for _, o := range outcomes {
		for _, n := range o.Notes {
			Notef(env, "%s", n)
		}
		if o.MarksLost != nil {
			Notef(env, "sequence marks are not kept: %v; an SA that is made again starts its numbers again (IPSEC_STATEDIR names another directory, or none)", o.MarksLost)
		}
	}
}

// A Plain is the part of a [Changer] that most have: nothing to say, and no keys.
type Plain struct{}

// Done prints nothing.
func (Plain) Done(context.Context, *Env, klips.Stack, []klips.Outcome) error { return nil }

// Clear does nothing.
func (Plain) Clear() {}

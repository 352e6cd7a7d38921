package cli

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// A Command is a parsed command line.
type Command interface {
	// Run carries it out.
	Run(ctx context.Context, env *Env) error
}

// A Func is a command that consists of one function.
type Func func(ctx context.Context, env *Env) error

// Run calls f.
func (f Func) Run(ctx context.Context, env *Env) error { return f(ctx, env) }

// A Reader is a command that reads from a stack.
type Reader func(ctx context.Context, env *Env, s klips.Stack) error

// Run opens the stack, calls f and closes the stack.
func (f Reader) Run(ctx context.Context, env *Env) error {
	s, err := env.Stack(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return f(ctx, env, s)
}

// A Changer is a command that only changes the stack. Its Run calls [Change]. A caller
// with several of them collects their changes first, see [klips.Change].
type Changer interface {
	Command
	// Changes returns the changes for s, and prints notes about the arguments. It may
	// read from s and the host, and changes neither. The error is the reason why the
	// command cannot be carried out here.
	Changes(ctx context.Context, env *Env, s klips.Stack) ([]klips.Change, error)
	// Refused adds words to the error that s returned for c, one of the changes.
	Refused(ctx context.Context, s klips.Stack, c klips.Change, err error) error
	// Done prints the results after the changes; o holds the outcome of each.
	Done(ctx context.Context, env *Env, s klips.Stack, o []klips.Outcome) error
	// Clear overwrites the keys that the command has read.
	Clear()
}

// Change carries out one command.
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

// NoteOutcomes prints the notes that a stack has returned with its outcomes.
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

// A Plain has the methods that do nothing in most Changers: those that print nothing
// and have no keys.
type Plain struct{}

// Done prints nothing.
func (Plain) Done(context.Context, *Env, klips.Stack, []klips.Outcome) error { return nil }

// Clear does nothing.
func (Plain) Clear() {}

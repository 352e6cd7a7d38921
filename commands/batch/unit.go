package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/serial"
)

// commit is the line that ends a unit of standard input.
const commit = "commit"

// isCommit reports whether a command is the line commit.
func isCommit(c command) bool { return c.err == nil && len(c.words) == 1 && c.words[0] == commit }

// maxUnit is how many commands a unit of standard input may have: it may have no end.
const maxUnit = 1 << 20

// units carries out a source, unit by unit. A file is one unit. Standard input has
// several: each ends at a line commit, or at the end of the input.
func (x *executor) units(ctx context.Context, src source) error {
	several := x.request.file == "-"
	var list []command
	for {
		c, err := src(ctx, 0)
		switch {
		case ctx.Err() != nil:
			return x.interrupted()
		case err != nil && err != io.EOF:
			return fmt.Errorf("%s: %w", x.name, err)
		case err == nil && !(several && isCommit(c)):
			if list = append(list, c); several && len(list) > maxUnit {
				return fmt.Errorf("%s: more than %d commands without a line commit; nothing of them was done", x.name, maxUnit)
			}
			continue
		}
		if err := x.unit(ctx, list); err != nil {
			return err
		}
		if err == io.EOF {
			return x.finish()
		}
		list = nil
	}
}

// A unit is a list of commands that are carried out all or not at all.
type unit struct {
	tasks []*task
	tx    *plan.Transaction // nil until a command changes the stack
}

// unit carries out commands all or none, or only rehearses them. It first parses all
// commands and carries out their changes in memory, with the rules of the stack. So the
// first command is carried out only if no error is known for any of them.
func (x *executor) unit(ctx context.Context, list []command) error {
	u := &unit{}
	defer u.end()
	if err := x.readAll(u, list); err != nil {
		return err
	}
	if err := x.rehearse(ctx, u); err != nil || x.request.dryRun {
		return err
	}
	if ctx.Err() != nil {
		return x.interrupted()
	}
	return x.perform(ctx, u)
}

// end lets other programs change the stack again, and overwrites the keys.
func (u *unit) end() {
	if u.tx != nil {
		u.tx.End()
	}
	clearTasks(u.tasks)
}

// readAll parses all commands. One wrong command refuses the unit.
func (x *executor) readAll(u *unit, list []command) error {
	for _, c := range list {
		t := x.understand(c)
		u.tasks = append(u.tasks, t)
		if t.err != nil {
			if err := x.refuse(t, t.err); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse prints why a command is refused. It returns an error if that ends the unit:
// nothing of the unit is done then. A dry run with --keep-going goes on with the other
// commands.
func (x *executor) refuse(t *task, why error) error {
	text, status := t.message(why)
	x.say(t.line, text)
	x.failed++
	if x.request.keepGoing && x.noStack == nil {
		return nil
	}
	x.nothingDone()
	return &cli.ExitError{Code: status}
}

// nothingDone prints that a unit has changed nothing.
func (x *executor) nothingDone() {
	x.progress.hide()
	switch {
	case x.request.dryRun:
	case x.done > 0: // in earlier units
		cli.Notef(x.env, "nothing of this part was done; %s done before", x.count(x.done))
	default:
		cli.Notef(x.env, "nothing was done")
	}
}

// rehearse carries out the changes of all tasks in memory.
func (x *executor) rehearse(ctx context.Context, u *unit) error {
	for _, t := range u.tasks {
		if t.err != nil {
			continue // the error has been printed
		}
		if t.changer != nil {
			if err := x.rehearseOne(ctx, u, t); err != nil {
				if err := x.refuse(t, err); err != nil {
					return err
				}
				continue
			}
		}
		if x.request.dryRun {
			x.done++
		}
	}
	return nil
}

// rehearseOne carries out the changes of a task in memory.
func (x *executor) rehearseOne(ctx context.Context, u *unit, t *task) error {
	if u.tx == nil {
		var err error
		if u.tx, err = x.begin(ctx); err != nil {
			return err
		}
	}
	s := serial.New(u.tx.Model)
	if x.ask(ctx, t, s); t.err != nil {
		return t.err
	}
	for _, c := range t.changes {
		if err := u.tx.Rehearse(ctx, c); err != nil {
			return t.changer.Refused(ctx, s, c, err)
		}
	}
	return nil
}

// begin begins the transaction of a unit. A dry run does not keep others from changing
// the stack. If the stack does not run, a dry run starts from an empty stack.
func (x *executor) begin(ctx context.Context) (*plan.Transaction, error) {
	s, err := x.open(ctx)
	var none *klips.UnavailableError
	switch {
	case x.request.dryRun && errors.As(err, &none):
		cli.Notef(x.env, "%s; the commands are checked as if it had nothing", explain.Line(err))
		x.noStack = nil
		local, _ := plan.ThisHost()
		m := plan.NewModel(local, nil)
		m.Stack = x.env.StackName
		return plan.Rehearsal(m), nil
	case err != nil:
		return nil, err
	case x.request.dryRun:
		m, err := plan.Read(ctx, s)
		if err != nil {
			return nil, err
		}
		return plan.Rehearsal(m), nil
	}
	return plan.Begin(ctx, s)
}

// A chunk is how many changes are sent to the stack at a time. Between two chunks an
// interrupt is noticed, and the progress is shown. A stack can have to read its tables
// for each chunk, so chunks grow with the number of changes.
type chunk int

const (
	firstChunk chunk = 1024
	lastChunk        = 16 * firstChunk
)

func (c *chunk) grow() { *c = min(2**c, lastChunk) }

// perform carries out a unit. If a command fails in spite of the rehearsal, the
// commands before it are rolled back.
func (x *executor) perform(ctx context.Context, u *unit) error {
	for i := 0; i < len(u.tasks); {
		t := u.tasks[i]
		if ctx.Err() != nil {
			if !x.takeBack(ctx, u) {
				return errors.New("interrupted; what could not be taken back stays done")
			}
			return x.interrupted()
		}
		if t.changer == nil {
			if err := x.alone(ctx, t); err != nil {
				return x.fail(ctx, u, t, err)
			}
			x.carriedOut(t)
			i++
			continue
		}
		n := 1
		for i+n < len(u.tasks) && u.tasks[i+n].changer != nil && n < int(x.chunk) {
			n++
		}
		x.chunk.grow()
		for _, e := range x.apply(ctx, u.tasks[i:i+n], u.tx) {
			if e.err != nil {
				return x.fail(ctx, u, e.task, e.err)
			}
			x.carriedOut(e.task)
		}
		i += n
	}
	return nil
}

// alone runs a command that does not change the stack.
func (x *executor) alone(ctx context.Context, t *task) error {
	x.line = t.line
	return t.cmd.Run(context.WithoutCancel(ctx), &t.env)
}

// fail rolls back a unit after a command has failed, and prints the result.
func (x *executor) fail(ctx context.Context, u *unit, t *task, err error) error {
	text, status := t.message(err)
	x.say(t.line, text)
	x.failed++
	if x.takeBack(ctx, u) {
		x.nothingDone()
	}
	return &cli.ExitError{Code: status}
}

// takeBack rolls back what was done of a unit. It prints what it cannot roll back;
// whole reports that nothing remained.
func (x *executor) takeBack(ctx context.Context, u *unit) (whole bool) {
	var left []plan.Left
	if u.tx != nil {
		left = u.tx.TakeBack(context.WithoutCancel(ctx))
	}
	for _, l := range left {
		cli.Notef(x.env, "not taken back: %v: %s", l.Change, strings.ReplaceAll(l.Err.Error(), "\n", "; "))
	}
	x.done -= u.counted()
	x.checks = nil
	return len(left) == 0
}

// counted returns how many commands of a unit have been counted as done.
func (u *unit) counted() (n int) {
	for _, t := range u.tasks {
		if t.counted {
			n++
		}
	}
	return n
}

// carriedOut counts a command as done, and shows the progress.
func (x *executor) carriedOut(t *task) {
	t.counted = true
	x.done++
	x.progress.step(x.done+x.failed, time.Now())
}

// An ending is a task that has ended, and its error.
type ending struct {
	*task
	err error
}

// apply carries out the changes of tasks, up to the first that is refused, and lets the
// finished tasks print their results. tx is the transaction of the changes, or nil. It
// returns the tasks that have ended, in order.
func (x *executor) apply(ctx context.Context, tasks []*task, tx *plan.Transaction) (ended []ending) {
	if len(tasks) == 0 {
		return nil
	}
	s, err := x.open(ctx)
	if err != nil {
		return []ending{{tasks[0], err}}
	}
	var changes []klips.Change
	for _, t := range tasks {
		changes = append(changes, t.changes...)
	}
	// Wait for the answer to a request that has been sent: its result must be known.
	ctx = context.WithoutCancel(ctx)
	var r klips.Result
	var refused error
	if tx != nil {
		r, refused = tx.Apply(ctx, len(changes))
	} else {
		r, refused = s.Apply(ctx, changes...)
	}
	outcomes := r.Outcomes
	for _, t := range tasks {
		x.show(t)
		if len(outcomes) < len(t.changes) {
			return append(ended, ending{t, t.changer.Refused(ctx, s, t.changes[len(outcomes)], refused)})
		}
		var own []klips.Outcome
		own, outcomes = outcomes[:len(t.changes)], outcomes[len(t.changes):]
		cli.NoteOutcomes(x.env, own) // they are about the stack, not about one line
		ended = append(ended, ending{t, t.changer.Done(ctx, &t.env, kept{s}, own)})
	}
	return ended
}

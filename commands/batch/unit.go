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

// maxUnit is how many commands a unit of standard input has at most: it may never end.
const maxUnit = 1 << 20

// units carries out what a source has, each unit as a whole. A file is one unit; standard
// input has several: each goes up to a line commit, or to the end.
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

// A unit is commands that are carried out all or not at all.
type unit struct {
	tasks []*task
	tx    *plan.Transaction // nil until a command changes the stack
}

// unit carries out commands all or none, or only rehearses them. First all are read, then
// their changes are carried out in memory, as the stack would; so the first of them is
// done when nothing that can be known is in the way of the last.
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

// end lets others change the stack, and overwrites the keys.
func (u *unit) end() {
	if u.tx != nil {
		u.tx.End()
	}
	clearTasks(u.tasks)
}

// readAll understands all commands. One that is wrong refuses the unit.
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

// refuse says why a command is not carried out. The error is not nil if that ends the
// unit: nothing of it is done then. In a dry run with --keep-going the others are looked
// at, too.
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

// nothingDone notes that a unit has left all as it was.
func (x *executor) nothingDone() {
	x.progress.hide()
	switch {
	case x.request.dryRun:
	case x.done > 0: // of units before
		cli.Notef(x.env, "nothing of this part was done; %s done before", x.count(x.done))
	default:
		cli.Notef(x.env, "nothing was done")
	}
}

// rehearse carries the changes of all tasks out in memory.
func (x *executor) rehearse(ctx context.Context, u *unit) error {
	for _, t := range u.tasks {
		if t.err != nil {
			continue // it was said
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

// rehearseOne carries the changes of a task out in memory.
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

// begin begins the transaction of a unit. The rehearsal of a dry run keeps nobody from
// changing the stack; that of a stack that does not run is one of an empty stack.
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

// chunk is how many changes the stack is asked for at a time. In between an interrupt is
// seen, and the progress is shown.
const chunk = 1024

// perform carries a unit out. If one of its commands fails after all, those before it are
// taken back.
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
		for i+n < len(u.tasks) && u.tasks[i+n].changer != nil && n < chunk {
			n++
		}
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

// fail takes a unit back of which a command has failed, and says what became of it.
func (x *executor) fail(ctx context.Context, u *unit, t *task, err error) error {
	text, status := t.message(err)
	x.say(t.line, text)
	x.failed++
	if x.takeBack(ctx, u) {
		x.nothingDone()
	}
	return &cli.ExitError{Code: status}
}

// takeBack takes back what was done of a unit. What it cannot take back is named; whole
// reports that there is nothing such.
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

// counted is how many commands of a unit have been counted as done.
func (u *unit) counted() (n int) {
	for _, t := range u.tasks {
		if t.counted {
			n++
		}
	}
	return n
}

// carriedOut counts a command, and shows how far the work is.
func (x *executor) carriedOut(t *task) {
	t.counted = true
	x.done++
	x.progress.step(x.done+x.failed, time.Now())
}

// An ending is a task that has come to an end, and the error of that.
type ending struct {
	*task
	err error
}

// apply carries out the changes of tasks, up to one that is refused, and lets those that
// are done say what they have to. tx is the transaction that the changes are of, if any.
// It returns the tasks that came to an end, in order.
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
	// A request that has been sent is waited for: what it did must be known.
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
		cli.NoteOutcomes(x.env, own) // they are about the stack, not about the line
		ended = append(ended, ending{t, t.changer.Done(ctx, &t.env, kept{s}, own)})
	}
	return ended
}

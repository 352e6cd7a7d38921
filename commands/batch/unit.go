package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
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
	model *plan.Model
	back  []undo // what takes back the changes of the tasks before; see plan.Model.Inverse
}

// An undo takes one change back.
type undo struct {
	change klips.Change
	back   []klips.Change
	ok     bool
}

// unit carries out commands all or none, or only rehearses them. First all are read, then
// their changes are carried out in memory, as the stack would; so the first of them is
// done when nothing that can be known is in the way of the last.
func (x *executor) unit(ctx context.Context, list []command) error {
	u := &unit{}
	defer func() { clearTasks(u.tasks) }()
	if err := x.readAll(u, list); err != nil {
		return err
	}
	undos, err := x.rehearse(ctx, u)
	if err != nil || x.request.dryRun {
		return err
	}
	if ctx.Err() != nil {
		return x.interrupted()
	}
	return x.perform(ctx, u, undos)
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

// rehearse carries the changes out in memory. It returns what takes back each task.
func (x *executor) rehearse(ctx context.Context, u *unit) ([][]undo, error) {
	undos := make([][]undo, len(u.tasks))
	var s klips.Stack
	for i, t := range u.tasks {
		if t.err != nil {
			continue // it was said
		}
		if t.changer == nil {
			if x.request.dryRun {
				x.done++
			}
			continue
		}
		if s == nil {
			var err error
			if s, err = x.model(ctx, u); err != nil {
				return nil, x.refuse(t, err)
			}
		}
		if err := x.rehearseOne(ctx, u, t, s, &undos[i]); err != nil {
			if err := x.refuse(t, err); err != nil {
				return nil, err
			}
			continue
		}
		if x.request.dryRun {
			x.done++
		}
	}
	return undos, nil
}

// rehearseOne carries a task out in memory. s is the model's stack.
func (x *executor) rehearseOne(ctx context.Context, u *unit, t *task, s klips.Stack, undos *[]undo) error {
	if x.ask(ctx, t, s); t.err != nil {
		return t.err
	}
	for _, c := range t.changes {
		back, ok := u.model.Inverse(c)
		if err := u.model.Do(ctx, c); err != nil {
			return t.changer.Refused(ctx, s, err)
		}
		*undos = append(*undos, undo{c, back, ok})
	}
	return nil
}

// model makes the unit's model of what the stack has now, and returns it as a stack. A
// rehearsal of a stack that does not run is one of an empty stack.
func (x *executor) model(ctx context.Context, u *unit) (klips.Stack, error) {
	s, err := x.open(ctx)
	var none *klips.UnavailableError
	switch {
	case x.request.dryRun && errors.As(err, &none):
		cli.Notef(x.env, "%s; the commands are checked as if it had nothing", explain.Line(err))
		x.noStack = nil
		u.model = plan.NewModel(isLocal(), nil)
		u.model.Stack = x.env.StackName
		return serial.New(u.model), nil
	case err != nil:
		return nil, err
	}
	now, err := s.Snapshot(ctx, plan.Wanted)
	if err != nil {
		return nil, err
	}
	u.model = plan.Of(s.Info(), now)
	u.model.Local, u.model.Physical = isLocal(), isThere
	return serial.New(u.model), nil
}

// isLocal returns what reports whether an address is this host's.
func isLocal() func(netip.Addr) bool {
	own := map[netip.Addr]bool{}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return func(a netip.Addr) bool { return own[a] || a.IsLoopback() }
}

// isThere reports whether a device is there, by its name.
func isThere(name string) (mtu int, ok bool) {
	d, err := net.InterfaceByName(name)
	if err != nil {
		return 0, false
	}
	return d.MTU, true
}

// chunk is how many changes the stack is asked for at a time. In between an interrupt is
// seen, and the progress is shown.
const chunk = 1024

// perform carries a unit out. If one of its commands fails after all, those before it are
// taken back.
func (x *executor) perform(ctx context.Context, u *unit, undos [][]undo) error {
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
		made, ended := x.apply(ctx, u.tasks[i:i+n])
		u.back = append(u.back, slices.Concat(undos[i : i+n]...)[:made]...)
		for _, e := range ended {
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

// takeBack takes back what was done of a unit, the last first. What it cannot take back
// is named; whole reports that there is nothing such.
func (x *executor) takeBack(ctx context.Context, u *unit) (whole bool) {
	ctx = context.WithoutCancel(ctx)
	whole = true
	for _, b := range slices.Backward(u.back) {
		var err error
		if b.ok {
			_, err = x.stack.Apply(ctx, b.back...)
		} else {
			err = errNoWay
		}
		if err != nil {
			whole = false
			cli.Notef(x.env, "not taken back: %v: %s", b.change, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	x.done -= u.counted()
	x.checks = nil
	return whole
}

// errNoWay is why some changes cannot be taken back.
var errNoWay = errors.New("no stack can")

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
// are done say what they have to. made is how many changes were made; ended are the tasks
// that came to an end, in order.
func (x *executor) apply(ctx context.Context, tasks []*task) (made int, ended []ending) {
	if len(tasks) == 0 {
		return 0, nil
	}
	s, err := x.open(ctx)
	if err != nil {
		return 0, []ending{{tasks[0], err}}
	}
	var changes []klips.Change
	for _, t := range tasks {
		changes = append(changes, t.changes...)
	}
	// A request that has been sent is waited for: what it did must be known.
	ctx = context.WithoutCancel(ctx)
	r, refused := s.Apply(ctx, changes...)
	outcomes := r.Outcomes
	for _, t := range tasks {
		x.show(t)
		if len(outcomes) < len(t.changes) {
			ended = append(ended, ending{t, t.changer.Refused(ctx, s, refused)})
			break
		}
		var own []klips.Outcome
		own, outcomes = outcomes[:len(t.changes)], outcomes[len(t.changes):]
		cli.NoteOutcomes(x.env, own) // they are about the stack, not about the line
		ended = append(ended, ending{t, t.changer.Done(ctx, &t.env, kept{s}, own)})
	}
	return len(r.Outcomes), ended
}

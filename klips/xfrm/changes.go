package xfrm

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// A change is one command's change of the tables. It can be done more than
// once, to other tables each time; it changes nothing when it is refused.
type change struct {
	op, object string // for errors
	do         func(*tables) error
	clear      func() // clears keys; may be nil
}

// verbs make changes of what commands ask for, and hand them on.
type verbs struct {
	take func(context.Context, change) error
}

// AddSA makes an SA.
func (v verbs) AddSA(ctx context.Context, spec *klips.SASpec) error {
	id := spec.ID
	made, err := newSA(spec, time.Now())
	c := change{op: "add SA", object: id.String()}
	if made != nil && made.state != nil {
		c.clear = made.state.ClearKeys
	}
	c.do = func(t *tables) error {
		switch {
		case t.sas[id] != nil:
			return refuse("", id.String(), syscall.EEXIST, "")
		case err != nil:
			return err
		}
		s := *made
		return t.addSA(&s)
	}
	return v.take(ctx, c)
}

// DeleteSA removes an SA and its group.
func (v verbs) DeleteSA(ctx context.Context, id klips.SAID) error {
	return v.take(ctx, change{op: "delete SA", object: id.String(), do: func(t *tables) error { return t.deleteSA(id) }})
}

// ClearSAs removes all SAs that commands have made, and no others.
func (v verbs) ClearSAs(ctx context.Context) error {
	return v.take(ctx, change{op: "clear SAs", do: func(t *tables) error { t.clearSAs(); return nil }})
}

// Group links SAs.
func (v verbs) Group(ctx context.Context, ids []klips.SAID) error {
	ids = slices.Clone(ids)
	return v.take(ctx, change{op: "group", do: func(t *tables) error { return t.group(ids) }})
}

// Ungroup takes a group apart.
func (v verbs) Ungroup(ctx context.Context, id klips.SAID) error {
	return v.take(ctx, change{op: "ungroup", object: id.String(), do: func(t *tables) error { return t.ungroup(id) }})
}

// SetEroute adds or replaces an eroute, or sets an inbound policy.
func (v verbs) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	verb := [...]string{"add eroute", "replace eroute", "set inbound policy", "set inbound policy"}[op]
	e.PID = int32(os.Getpid())
	return v.take(ctx, change{op: verb, object: e.Selector.String(), do: func(t *tables) error { return t.setEroute(e, op) }})
}

// DeleteEroute removes an eroute.
func (v verbs) DeleteEroute(ctx context.Context, sel klips.Selector) error {
	return v.take(ctx, change{op: "delete eroute", object: sel.String(), do: func(t *tables) error { return t.deleteEroute(sel) }})
}

// ClearEroutes removes all eroutes.
func (v verbs) ClearEroutes(ctx context.Context) error {
	return v.take(ctx, change{op: "clear eroutes", do: func(t *tables) error { clear(t.routes); return nil }})
}

// takeOne carries out a change.
func (s *Stack) takeOne(ctx context.Context, c change) error {
	_, err := s.carryOut(ctx, []change{c})
	return err
}

// carryOut carries out changes in order, and clears all. done is how many were
// carried out; the error is of the next one.
func (s *Stack) carryOut(ctx context.Context, l []change) (done int, err error) {
	defer clearAll(l)
	if len(l) == 0 {
		return 0, nil
	}
	unlock, err := s.lock.Acquire(ctx)
	if err != nil {
		return 0, about(err, l[0].op, l[0].object)
	}
	defer unlock()
	return s.halve(ctx, l)
}

// halve tries all changes at once. If they are not possible it tries one half
// and then the other, down to the change that is not: the kernel's errors do not
// tell whose they are.
func (s *Stack) halve(ctx context.Context, l []change) (done int, err error) {
	err = s.attempt(ctx, l)
	if err == nil {
		return len(l), nil
	}
	if len(l) == 1 || ctx.Err() != nil {
		return 0, about(err, l[0].op, l[0].object)
	}
	half := len(l) / 2
	if done, err := s.halve(ctx, l[:half]); err != nil {
		return done, err
	}
	done, err = s.halve(ctx, l[half:])
	return half + done, err
}

// attempt changes the tables and makes the kernel follow: all or nothing.
func (s *Stack) attempt(ctx context.Context, l []change) error {
	t, have, d, err := s.load(ctx)
	if err != nil {
		return err
	}
	defer d.clear()
	for _, c := range l {
		if err := c.do(t); err != nil {
			return about(err, c.op, c.object)
		}
	}
	m, err := s.marking(ctx, t, have)
	if err != nil {
		return err
	}
	left, err := s.follow(ctx, t, have, d)
	m.done(left, err)
	if err != nil {
		return err
	}
	t.filterFollows()
	return nil
}

func clearAll(l []change) {
	for _, c := range l {
		if c.clear != nil {
			c.clear()
		}
	}
}

// A collection is changes that wait, and the tables that they will make.
type collection struct {
	verbs
	stack  *Stack
	tables *tables // nil: not read yet
	list   []change
}

// Collect returns an empty collection.
func (s *Stack) Collect() klips.Collection {
	c := &collection{stack: s}
	c.verbs.take = c.collect
	return c
}

// collect takes a change if the tables do.
func (c *collection) collect(ctx context.Context, ch change) error {
	if err := c.read(ctx); err != nil {
		clearAll([]change{ch})
		return about(err, ch.op, ch.object)
	}
	if err := ch.do(c.tables); err != nil {
		clearAll([]change{ch})
		return about(err, ch.op, ch.object)
	}
	c.list = append(c.list, ch)
	return nil
}

func (c *collection) read(ctx context.Context) error {
	if c.tables != nil {
		return nil
	}
	t, _, d, err := c.stack.load(ctx)
	if err != nil {
		return err
	}
	d.clear() // what is there has no part in the checks
	c.tables = t
	return nil
}

// Len is how many changes wait.
func (c *collection) Len() int { return len(c.list) }

// Commit carries out the first n changes.
func (c *collection) Commit(ctx context.Context, n int) (done int, err error) {
	l := c.list
	c.list, c.tables = nil, nil
	clearAll(l[n:])
	return c.stack.carryOut(ctx, l[:n])
}

// about gives an error its operation, and its object if it has none.
func about(err error, op, object string) error {
	if err == nil {
		return nil
	}
	var e *klips.OpError
	if !errors.As(err, &e) {
		return &klips.OpError{Op: op, Object: object, Err: err}
	}
	e.Op = op
	if e.Object == "" {
		e.Object = object
	}
	return err
}

package xfrm

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A change is one command's change of the tables. It can be made several times, each
// time to other tables. If it is refused, the tables stay as they were.
type change struct {
	op, object string // for errors
	do         func(*tables) error
	of         klips.Change
	made       *sa    // by an AddSA
	clear      func() // clears keys; may be nil
}

// newChange makes a change from a command's; ok is false if that does not change the
// tables. It clears no keys of c, and copies those that it keeps.
func newChange(c klips.Change) (_ change, ok bool) {
	ch := change{op: c.Op(), object: c.Object(), of: c}
	switch c := c.(type) {
	case klips.AddSA:
		id := c.ID
		made, err := newSA(c.SASpec, time.Now())
		if made != nil && made.state != nil {
			ch.clear = made.state.ClearKeys
		}
		ch.made = made
		ch.do = func(t *tables) error {
			switch {
			case t.sas[id] != nil:
				return refuse("", id.String(), syscall.EEXIST, "")
			case err != nil:
				return err
			}
			s := *made
			return t.addSA(&s)
		}
	case klips.DeleteSA:
		ch.do = func(t *tables) error { return t.deleteSA(c.ID) }
	case klips.ClearSAs: // those made by commands, and no others
		ch.do = func(t *tables) error { t.clearSAs(); return nil }
	case klips.Group:
		ids := slices.Clone(c.IDs)
		ch.object = "" // the tables name the SA at fault
		ch.do = func(t *tables) error { return t.group(ids) }
	case klips.Ungroup:
		ch.do = func(t *tables) error { return t.ungroup(c.ID) }
	case klips.SetEroute:
		e := c.Eroute
		e.PID = int32(os.Getpid())
		ch.do = func(t *tables) error { return t.setEroute(e, c.ErouteOp()) }
	case klips.SetPolicy:
		ch.object = c.Policy.String()
		ch.do = func(t *tables) error { return t.setEroute(c.Eroute(), c.ErouteOp()) }
	case klips.DeleteEroute:
		ch.do = func(t *tables) error { return t.deleteEroute(c.Selector) }
	case klips.ClearEroutes:
		ch.do = func(t *tables) error { t.clearEroutes(); return nil }
	default:
		return change{}, false
	}
	return ch, true
}

// Apply carries out changes. Successive changes of the tables are made together, since
// each reads all of the kernel's objects.
func (s *Stack) Apply(ctx context.Context, changes ...klips.Change) (r klips.Result, err error) {
	for len(changes) > 0 {
		var list []change
		for _, c := range changes {
			ch, ok := newChange(c)
			if !ok {
				break
			}
			list = append(list, ch)
		}
		if len(list) == 0 {
			one, err := serial.Apply(ctx, s, changes[:1])
			if err != nil {
				return r, err
			}
			r.Outcomes = append(r.Outcomes, one.Outcomes...)
			changes = changes[1:]
			continue
		}
		done, err := s.carryOut(ctx, list)
		r.Outcomes = append(r.Outcomes, make([]klips.Outcome, done)...)
		if n := len(r.Outcomes); n > 0 {
			s.lost.take(&r.Outcomes[n-1])
		}
		if err != nil {
			return r, err
		}
		changes = changes[len(list):]
	}
	return r, nil
}

// carryOut carries out changes in order, and clears all of them. done is how many were
// carried out; the error is that of the next one.
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
	return s.bisect(ctx, l)
}

// bisect tries all changes at once. The kernel's errors do not name the change at
// fault. So after an error bisect tries one half and then the other, down to the change
// that is refused.
func (s *Stack) bisect(ctx context.Context, l []change) (done int, err error) {
	n, refused, err := s.attempt(ctx, l)
	if err == nil {
		return n, refused
	}
	if len(l) == 1 || ctx.Err() != nil {
		return 0, about(err, l[0].op, l[0].object)
	}
	half := max(n/2, 1)
	if done, err := s.bisect(ctx, l[:half]); err != nil {
		return done, err
	}
	done, err = s.bisect(ctx, l[half:])
	return half + done, err
}

// attempt changes the tables, up to the first change that they refuse, and then updates
// the kernel. The update is made as a whole or not at all; err is its error. n is the
// number of changes made; refused is the error of the next one.
func (s *Stack) attempt(ctx context.Context, l []change) (n int, refused, err error) {
	n, refused, err = s.attemptNear(ctx, l)
	if !errors.Is(err, errFar) {
		return n, refused, err
	}
	t, have, d, err := s.load(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer d.clear()
	if n, refused = t.change(l); n == 0 {
		return 0, refused, nil
	}
	t.seen.at = uint32(time.Now().Unix())
	return n, refused, s.update(ctx, t, have, d, nil)
}

// attemptNear is attempt without a dump. If that is not possible it changes nothing and
// returns errFar.
func (s *Stack) attemptNear(ctx context.Context, l []change) (n int, refused, err error) {
	near, err := s.near(ctx, len(l))
	if err != nil {
		return 0, nil, err
	}
	t := near.t
	defer near.d.clear()
	if err := near.gone(); err != nil {
		return 0, nil, err
	}
	if s.statedir != "" {
		if err := near.marksDue(time.Now()); err != nil {
			return 0, nil, err
		}
	}
	for _, c := range l {
		if err := near.about(ctx, c); err != nil {
			return 0, nil, err
		}
	}
	if err := near.count(ctx); err != nil {
		return 0, nil, err
	}
	n, refused = t.change(l)
	var oe *klips.OpError
	if errors.As(refused, &oe) && oe.Fault == klips.FaultKeyUsed {
		return 0, nil, errFar // the SA that has the key may have expired
	}
	if n == 0 {
		return 0, refused, nil
	}
	want, err := t.compile()
	if err != nil {
		return n, refused, err
	}
	if t.rest.remarks(near.o.tally, want.tally) {
		return 0, nil, errFar
	}
	return n, refused, s.update(ctx, t, near.o, near.d, near)
}

// change makes changes, up to the first that is refused. n is how many it has made.
func (t *tables) change(l []change) (n int, refused error) {
	for ; n < len(l); n++ {
		if err := l[n].do(t); err != nil { // the tables are unchanged then
			return n, about(err, l[n].op, l[n].object)
		}
	}
	return n, nil
}

// update makes the kernel's objects, the marks and the packet filter those of changed
// tables. near is nil if all objects were read.
func (s *Stack) update(ctx context.Context, t *tables, have *objects, d *dump, near *neighbourhood) error {
	m, err := s.marking(ctx, t, have)
	if err != nil {
		return err
	}
	left, err := s.follow(ctx, t, have, d, near)
	m.done(left, err)
	if err == nil {
		s.filterFollows(ctx, t)
	}
	return err
}

func clearAll(l []change) {
	for _, c := range l {
		if c.clear != nil {
			c.clear()
		}
	}
}

// about sets the operation of an error, and its object if it has none.
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

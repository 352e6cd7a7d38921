package xfrm

import (
	"context"
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/guard"
)

// Guard guards a flow. No process watches the packet filter: a change by another
// program stays until the next change of SAs or eroutes.
func (s *Stack) Guard(ctx context.Context, g klips.Guard) (was bool, err error) {
	err = s.filter(ctx, "guard", g.Selector, func(r *guard.Rules) error {
		was = r.Close(g)
		return nil
	})
	return was, err
}

// Unguard ends the guard of a flow.
func (s *Stack) Unguard(ctx context.Context, sel klips.Selector) error {
	return s.filter(ctx, "unguard", sel, func(r *guard.Rules) error {
		if !r.Open(sel) {
			return syscall.ENOENT
		}
		return nil
	})
}

// filter changes the guards in the packet filter.
func (s *Stack) filter(ctx context.Context, op string, sel klips.Selector, change func(r *guard.Rules) error) error {
	unlock, err := s.lock.Acquire(ctx)
	if err != nil {
		return about(err, op, sel.String())
	}
	defer unlock()
	t, _, d, err := s.load(ctx)
	if err != nil {
		return about(err, op, sel.String())
	}
	defer d.clear()
	err = s.changeFilter(func(r *guard.Rules) error {
		if err := change(r); err != nil {
			return err
		}
		t.seenBy(r)
		return nil
	})
	if errors.Is(err, guard.ErrNone) {
		return refuse(op, sel.String(), syscall.EOPNOTSUPP, err.Error())
	}
	return about(err, op, sel.String())
}

// seenBy adds to the rules the flows that are protected and the flows that may pass.
// Packets that come out of SAs must not be quoted in clear.
func (t *tables) seenBy(r *guard.Rules) {
	var pass []klips.Eroute
	for _, e := range t.routes {
		pass = append(pass, e.Eroute)
	}
	r.SetPass(pass)
	for _, sa := range t.sas {
		end := sa.id.Dst
		if sa.dir == klips.Inbound {
			end = sa.src
		}
		r.Peers = append(r.Peers, end)
	}
	r.Hide = t.hides(*r)
}

// hides reports whether ICMP errors about protected packets are to be dropped: there may
// be such packets.
func (t *tables) hides(r guard.Rules) bool { return len(t.sas) > 0 || t.rest.sas > 0 || r.Closes() }

// errSame ends a change of the packet filter that would change nothing.
var errSame = errors.New("the packet filter has these rules")

// filterFollows updates the packet filter from the tables. If that fails, the old rules
// may drop too much. They drop too little only where there was none.
func (s *Stack) filterFollows(ctx context.Context, t *tables) {
	_ = s.changeFilter(func(r *guard.Rules) error {
		if !r.Closes() && r.Hide == t.hides(*r) {
			return errSame
		}
		if t.near && r.Closes() { // the rules contain all peers
			all, _, d, err := s.load(ctx)
			if err != nil {
				return err
			}
			d.clear()
			t = all
		}
		t.seenBy(r)
		return nil
	})
}

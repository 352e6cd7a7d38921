package daemon

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// A Filter is the kernel's packet filter; [guard.Table] implements it.
type Filter interface {
	Set(guard.Rules) error
	Read() (guard.Rules, error)
	Whole() (bool, error)
	Counters() (guard.Counters, error)
	Watch(lost func(err error)) (stop func(), err error)
}

// guards keeps the packet filter up to date with the guards of connections, the knobs,
// the SAs and the eroutes. Flows that an earlier daemon closed stay closed until a
// client opens them.
type guards struct {
	filter Filter // nil: there is none
	none   error  // why
	eng    *engine.Engine
	log    *slog.Logger
	clock  clock.Clock
	dirty  chan struct{}

	mu    sync.Mutex
	asked guard.Rules  // by GUARD requests, also to an earlier daemon
	left  []guard.Flow // flows that an earlier daemon closed by hand
	last  guard.Rules  // the rules as last set
	wrong bool         // setting them failed, and this was logged
	over  bool         // the next daemon owns the filter
}

// restTime is the minimum time between two repairs of the filter, so that two programs
// that both manage it do not keep the machine busy.
const restTime = 200 * time.Millisecond

func newGuards(f Filter, none error, eng *engine.Engine, log *slog.Logger, c clock.Clock) *guards {
	return &guards{filter: f, none: none, eng: eng, log: log, clock: c, dirty: make(chan struct{}, 1)}
}

// takeUp reads the rules of an earlier daemon. whole: the stack has the whole state of
// that daemon, so the flows closed by hand follow from it.
func (g *guards) takeUp(whole bool) {
	if g.filter == nil {
		g.cannotHide(g.none)
		return
	}
	left, err := g.filter.Read()
	if err != nil {
		g.filter, g.none = nil, err
		g.cannotHide(err)
		return
	}
	g.last = left
	g.asked = left.Clone()
	for _, f := range left.Flows {
		if f.ByHand && !whole {
			g.left = append(g.left, f)
		}
	}
	g.asked.ByHand(false, nil, nil)
	g.hide()
	g.changed()
}

// hide starts to drop ICMP errors that quote what came protected. The filter does that
// before the first packet comes, and until a client stops the stack.
func (g *guards) hide() {
	r := g.last.Clone()
	r.Hide = true
	if err := g.filter.Set(r); err != nil {
		g.cannotHide(err)
		return
	}
	g.asked.Hide, g.last = true, r.Normal()
}

func (g *guards) cannotHide(err error) {
	g.log.Warn("ICMP errors can quote in clear what came protected", "err", err)
}

// can reports whether flows can be guarded.
func (g *guards) can() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.filter != nil
}

// knobs notes that knobs were set. The knobs that close flows replace what an earlier
// daemon closed by hand.
func (g *guards) knobs(set map[string]int) {
	for _, in := range [...]bool{false, true} {
		name := "outbound_clear"
		if in {
			name = "inbound_policy_required"
		}
		if _, ok := set[name]; ok {
			g.mu.Lock()
			g.left = slices.DeleteFunc(g.left, func(f guard.Flow) bool { return f.In == in })
			g.mu.Unlock()
		}
	}
	g.follow()
}

// handOver leaves the filter to the next daemon: it must not follow the emptied stack.
func (g *guards) handOver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
}

// guard guards a flow.
func (g *guards) guard(f klips.Guard) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return syscall.ESHUTDOWN
	}
	if g.filter == nil {
		g.complain(g.none)
		return syscall.EOPNOTSUPP
	}
	old := g.asked.Clone()
	was := g.asked.Close(f)
	if err := g.setLocked(); err != nil {
		g.asked = old
		return err
	}
	if was {
		return syscall.EEXIST
	}
	return nil
}

// unguard ends the guard of a flow.
func (g *guards) unguard(s klips.Selector) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return syscall.ESHUTDOWN
	}
	old := g.asked.Clone()
	if !g.asked.Open(s) {
		return syscall.ENOENT
	}
	err := g.setLocked()
	if err != nil {
		g.asked = old
	}
	return err
}

// open removes the filter, because the stack is stopped.
func (g *guards) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.filter == nil {
		return
	}
	g.asked, g.left = guard.Rules{}, nil
	if err := g.filter.Set(guard.Rules{}); err != nil {
		g.complain(err)
	}
}

// changed notes that the filter may need an update.
func (g *guards) changed() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// run keeps the filter up to date until ctx ends.
func (g *guards) run(ctx context.Context) {
	if g.filter == nil {
		return
	}
	lost := make(chan struct{}, 1)
	notWatched := func(err error) {
		g.log.Warn("the packet filter is not watched: what others change in it is not mended", "err", err)
	}
	stop, err := g.filter.Watch(func(err error) {
		if err != nil {
			notWatched(err)
			return
		}
		select {
		case lost <- struct{}{}:
		default:
		}
	})
	if err != nil {
		notWatched(err)
	} else {
		defer stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.dirty:
			g.follow()
		case <-lost:
			g.mend()
			rested := make(chan struct{})
			t := g.clock.AfterFunc(restTime, func() { close(rested) })
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-rested:
			}
		}
	}
}

// follow sets the filter if its rules have changed.
func (g *guards) follow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	if g.filter == nil {
		if g.wantedLocked().Closes() {
			g.complain(g.none)
		}
		return
	}
	if g.last.Closes() || g.wantedLocked().Closes() {
		_ = g.setLocked()
	}
}

// mend sets the filter again if another program has changed it.
func (g *guards) mend() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	now, err := g.filter.Read()
	whole, werr := g.filter.Whole()
	if err == nil && werr == nil && whole && reflect.DeepEqual(now, g.last) && !g.wrong {
		return
	}
	g.last = guard.Rules{}
	if g.setLocked() == nil && !g.last.Empty() {
		g.log.Warn("the packet filter was changed by somebody else; it is as before again")
	}
}

// wantedLocked returns the rules that the filter must have.
func (g *guards) wantedLocked() guard.Rules {
	r := g.asked.Clone()
	if !r.Closes() && len(g.left) == 0 && !g.eng.Closes() {
		return guard.Rules{Hide: r.Hide}
	}
	v := g.eng.View()
	r.SetPass(v.Eroutes)
	r.ByHand(v.OutClosed, v.Eroutes, v.Policies)
	r.Flows = append(r.Flows, g.left...)
	r.Peers = append(r.Peers, v.Peers...)
	r.Ports = append(r.Ports, v.Ports...)
	return r.Normal()
}

func (g *guards) setLocked() error {
	r := g.wantedLocked()
	if reflect.DeepEqual(r, g.last) && !g.wrong {
		return nil
	}
	err := g.filter.Set(r)
	if err != nil {
		g.complain(err)
		if errors.Is(err, guard.ErrNone) {
			return syscall.EOPNOTSUPP
		}
		return err
	}
	g.last, g.wrong = r, false
	return nil
}

// complain logs once that the filter cannot be set.
func (g *guards) complain(err error) {
	if !g.wrong {
		g.log.Warn("flows are kept from leaving in clear by routes alone, not by the packet filter", "err", err)
	}
	g.wrong = true
}

// counters returns the filter's drop counters for the status; ok is false if they have
// nothing to report.
func (g *guards) counters() (n guard.Counters, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.filter == nil {
		return n, false
	}
	n, err := g.filter.Counters()
	return n, err == nil && g.last.Reports(n)
}

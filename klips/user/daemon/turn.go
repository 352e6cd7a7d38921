package daemon

import (
	"context"
	"time"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/control"
)

// A turn is the right to change the daemon's state. One client at a time has it: for
// one request, for a unit of requests (BEGIN to END), or from HOLD to RELEASE. So what
// a client has read stays the same until its own changes are done. Packets do not wait
// for it.
type turn struct {
	clock clock.Clock
	taken chan struct{} // holds an element while a client has the turn
}

// turnTimeout is how long a client waits for its turn. A change takes milliseconds; a
// client that keeps the turn for longer has been stopped, or waits for a person.
const turnTimeout = 10 * time.Second

func newTurn(c clock.Clock) turn { return turn{c, make(chan struct{}, 1)} }

// keepsTurn reports whether the client has the turn also between its requests.
func (c *client) keepsTurn() bool { return c.inUnit || c.holds }

// enter waits until it is the client's turn. It returns false when that takes too long,
// or when ctx ends.
func (t turn) enter(ctx context.Context, c *client) bool { return c.keepsTurn() || t.take(ctx) }

// leave ends the turn that the client has, unless it keeps it.
func (t turn) leave(c *client) {
	if !c.keepsTurn() {
		<-t.taken
	}
}

// gone ends the turn of a client that has disconnected, if it keeps the turn.
func (t turn) gone(c *client) {
	if c.keepsTurn() {
		c.inUnit, c.holds = false, false
		t.leave(c)
	}
}

func (t turn) take(ctx context.Context) bool {
	select {
	case t.taken <- struct{}{}:
		return true
	default:
	}
	ctx, late := context.WithCancel(ctx)
	defer late()
	timer := t.clock.AfterFunc(turnTimeout, late)
	defer timer.Stop()
	select {
	case t.taken <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// changes reports whether a request changes the daemon's state, and so needs the turn.
func changes(t pfkey.Type) bool {
	switch t {
	case pfkey.TypeGet, pfkey.TypeAcquire, pfkey.TypeRegister, pfkey.TypeExpire,
		control.TypeBegin, control.TypeEnd, control.TypeHold, control.TypeRelease,
		control.TypeList, control.TypeStatus, control.TypeStop, control.TypeKeys, control.TypeTrace:
		return false
	}
	return true
}

// gathered reports whether the answers to requests of a type are sent together when the
// requests were. Others are long, or the daemon ends after them.
func gathered(t pfkey.Type) bool {
	return changes(t) && t != control.TypeHandOver && t != control.TypeLeave || t == control.TypeEnd
}

// bracket carries out a request that begins or ends a unit, or a hold. It returns false
// when other clients keep the turn for too long.
func (s *server) bracket(ctx context.Context, c *client, t pfkey.Type) bool {
	enter := func(in *bool) bool {
		*in = *in || s.turn.enter(ctx, c)
		return *in
	}
	leave := func(in *bool) {
		if *in {
			*in = false
			s.turn.leave(c)
		}
	}
	switch t {
	case control.TypeBegin:
		c.refused = false
		return enter(&c.inUnit)
	case control.TypeEnd:
		c.refused = false
		s.guards.follow()
		leave(&c.inUnit)
	case control.TypeHold:
		return enter(&c.holds)
	case control.TypeRelease:
		leave(&c.holds)
	}
	return true
}

package daemon

import (
	"context"
	"time"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/control"
)

// A turn is the right to change what the daemon has. One client at a time has it: for one
// request, for a unit of requests (BEGIN to END), or from HOLD to RELEASE. So what a
// client has read stays as it is until its own changes are done. Packets do not wait for
// it.
type turn struct {
	clock clock.Clock
	taken chan struct{} // has an element while a client has the turn
}

// turnTimeout is how long a client waits for its turn. A change takes milliseconds; a
// client that has the turn for longer has been stopped, or holds it for a person.
const turnTimeout = 10 * time.Second

func newTurn(c clock.Clock) turn { return turn{c, make(chan struct{}, 1)} }

// enter waits until it is the client's turn. It returns false when that takes too long, or
// when ctx ends. A client that has the turn keeps it until it has left as often as it has
// entered.
func (t turn) enter(ctx context.Context, p *peer) bool {
	if p.turns == 0 && !t.take(ctx) {
		return false
	}
	p.turns++
	return true
}

func (t turn) leave(p *peer) {
	if p.turns--; p.turns == 0 {
		<-t.taken
	}
}

// gone ends the turn of a client that has gone, if it has it.
func (t turn) gone(p *peer) {
	if p.turns > 0 {
		p.turns = 1
		t.leave(p)
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

// changes reports whether a request changes what the daemon has, so that it waits for the
// turn of its client.
func changes(t pfkey.Type) bool {
	switch t {
	case pfkey.TypeGet, pfkey.TypeAcquire, pfkey.TypeRegister, pfkey.TypeExpire,
		control.TypeBegin, control.TypeEnd, control.TypeHold, control.TypeRelease,
		control.TypeList, control.TypeStatus, control.TypeStop:
		return false
	}
	return true
}

// bracket carries out a request that begins or ends a unit, or a hold. It returns false
// when others have the turn for too long.
func (s *server) bracket(ctx context.Context, p *peer, t pfkey.Type) bool {
	enter := func(in *bool) bool {
		if *in || s.turn.enter(ctx, p) {
			*in = true
		}
		return *in
	}
	leave := func(in *bool) {
		if *in {
			s.turn.leave(p)
		}
		*in = false
	}
	switch t {
	case control.TypeBegin:
		p.refused = false
		return enter(&p.inUnit)
	case control.TypeEnd:
		p.refused = false
		s.guards.follow()
		leave(&p.inUnit)
	case control.TypeHold:
		return enter(&p.holds)
	case control.TypeRelease:
		leave(&p.holds)
	}
	return true
}

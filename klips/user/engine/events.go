package engine

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Events is told what key daemons want to hear. Its methods are called by the
// packet workers and must not wait for anybody.
type Events interface {
	// Expire says that a lifetime limit of an SA has passed. After a hard one
	// the SA and its group are gone; sa is as it was.
	Expire(sa *klips.SA, hard bool)
	// Acquire says that a packet met a trap, and reports whether anybody who
	// registered for such messages was told.
	Acquire(a *Acquisition) bool
	// NewMapping says that the peer of an ESP SA in UDP sends from another
	// address or port than the SA has: from is the SA's, its address
	// unspecified where the SA has none. It reports whether anybody was told;
	// if so, the same is not said again before something else was true.
	NewMapping(id klips.SAID, from, to netip.AddrPort) bool
	// BelowMark says that an SA has refused its first packet whose number is not
	// above mark, up to which an earlier SA with its key has received. It is a
	// recorded packet, or the peer has started again.
	BelowMark(id klips.SAID, mark uint64)
}

// An Acquisition is a packet that met a trap.
type Acquisition struct {
	// Src and Dst are the packet's; ports are 0 unless the eroute has ports.
	Src, Dst netip.AddrPort
	Proto    uint8 // 0 unless the eroute has a protocol
	Trap     klips.Eroute
}

// nobody listens until SetEvents is called.
type nobody struct{}

func (nobody) Expire(*klips.SA, bool)       {}
func (nobody) BelowMark(klips.SAID, uint64) {}
func (nobody) Acquire(*Acquisition) bool    { return false }
func (nobody) NewMapping(klips.SAID, netip.AddrPort, netip.AddrPort) bool {
	return false
}

// SetEvents names who is told from now on.
func (e *Engine) SetEvents(ev Events) { e.events.Store(&ev) }

// expire removes an SA whose hard lifetime has passed, with its group: half a
// group must never be used. Of several packets that find it one does the rest.
func (e *Engine) expire(sa *sadb.SA) {
	last := info(sa, e.now())
	if gone, err := e.sas.DeleteSA(sa); err == nil && len(gone) > 0 {
		e.watch(-1, gone...)
		e.keeper.ended(gone...)
		e.trace.sa("hard lifetime limit", sa.ID, nil)
		(*e.events.Load()).Expire(&last, true)
	}
}

// soften notes that a soft lifetime of an SA has passed; the first time, key
// daemons are told. The message still shows the SA as mature, as KLIPS' does.
func (e *Engine) soften(sa *sadb.SA) {
	if sa.State() == klips.Dying {
		return
	}
	last := info(sa, e.now())
	if sa.SetDying() {
		e.trace.sa("soft lifetime limit", sa.ID, nil)
		(*e.events.Load()).Expire(&last, false)
	}
}

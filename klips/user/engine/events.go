package engine

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Events receives what key daemons ask for. The packet workers call its methods, which
// must not wait.
type Events interface {
	// Expire reports that a lifetime limit of an SA has passed. After a hard limit the SA
	// and its group are removed; sa shows the SA as it was.
	Expire(sa *klips.SA, hard bool)
	// Acquire reports that a packet met a trap. It returns whether the message has
	// reached a program that registered for such messages.
	Acquire(a *Acquisition) bool
	// NewMapping reports that the peer of an ESP SA in UDP sends from another address or
	// port than the SA has. from is the SA's; its address is unspecified if the SA has
	// none. NewMapping returns whether the message has reached a program. If so, it is
	// not called again with the same mapping until the mapping has changed.
	NewMapping(id klips.SAID, from, to netip.AddrPort) bool
	// BelowMark reports that an SA has refused a packet for the first time because its
	// number is not above mark. Up to mark, an earlier SA with the same key has received
	// packets. The packet is replayed, or the peer has started again.
	BelowMark(id klips.SAID, mark uint64)
}

// An Acquisition is a packet that met a trap.
type Acquisition struct {
	// Src and Dst are the packet's. Their ports are 0 unless the eroute has ports.
	Src, Dst netip.AddrPort
	Proto    uint8 // 0 unless the eroute has a protocol
	Trap     klips.Eroute
}

// nobody stands for Events until SetEvents is called.
type nobody struct{}

func (nobody) Expire(*klips.SA, bool)       {}
func (nobody) BelowMark(klips.SAID, uint64) {}
func (nobody) Acquire(*Acquisition) bool    { return false }
func (nobody) NewMapping(klips.SAID, netip.AddrPort, netip.AddrPort) bool {
	return false
}

// SetEvents sets the receiver of events from now on.
func (e *Engine) SetEvents(ev Events) { e.events.Store(&ev) }

// expire removes an SA whose hard lifetime has passed, with its group: half a group must
// never be used. Several packets can find the limit; one call does the work.
func (e *Engine) expire(sa *sadb.SA) {
	last := info(sa, e.now())
	if gone, err := e.sas.DeleteSA(sa); err == nil && len(gone) > 0 {
		e.watch(-1, gone...)
		e.keeper.ended(gone...)
		e.trace.sa("hard lifetime limit", sa.ID, nil)
		(*e.events.Load()).Expire(&last, true)
	}
}

// soften records that a soft lifetime of an SA has passed. Key daemons get a message the
// first time. The message still shows the SA as mature, as in KLIPS.
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

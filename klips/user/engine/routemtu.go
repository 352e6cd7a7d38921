package engine

import (
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips/user/sadb"
)

// The host's route to a peer can have an MTU of its own, which is smaller than that of the
// device: an administrator knows that the path is narrow. Protected packets to the peer are
// not longer, as those of a kernel's IPsec. Packets do not wait for the kernel: each SA has
// the MTUs that were read last.

// A routeMTU is the MTU of the route to an SA's destination by a wire.
type routeMTU struct {
	wire Wire
	mtu  int // smaller than that of the wire when it was read
}

// linkMTU returns how long packets of outermost SA sa may be that leave by a wire, as far as
// this host knows without reports of routers.
func linkMTU(sa *sadb.SA, w Wire) int {
	mtu := w.MTU()
	if l := sa.Data.(*states).routeMTUs.Load(); l != nil {
		for i := range *l {
			if r := &(*l)[i]; r.wire == w {
				return min(mtu, r.mtu)
			}
		}
	}
	return mtu
}

// readRouteLocked reads the MTUs of the routes to the destination of an outbound SA, by the
// wires in use and by that of another attachment; nil: there is no other one. The caller holds
// devMu.
func (e *Engine) readRouteLocked(sa *sadb.SA, more *attachment) {
	if !sa.Dir.Sends() {
		return
	}
	var l []routeMTU
	read := func(a *attachment) {
		if a == nil {
			return
		}
		if mtu := a.wire.RouteMTU(sa.ID.Dst); mtu < a.wire.MTU() {
			l = append(l, routeMTU{a.wire, mtu})
		}
	}
	for _, d := range e.devicesLocked() {
		read(d.att.Load())
	}
	read(more)
	p := &sa.Data.(*states).routeMTUs
	switch {
	case len(l) > 0:
		p.Store(&l)
	case p.Load() != nil:
		p.Store(nil)
	}
}

// rereadAfter is how long a change of the host's routes waits for others, so that the MTUs are
// read once for many of them; and it waits rereadShare times as long as the last reading took,
// because a router's routes can change all the time.
const (
	rereadAfter = time.Second
	rereadShare = 20
)

// rerouted reads the MTUs of all routes again some time after routes have changed, and then
// chooses the MTUs of the devices.
func (e *Engine) rerouted() {
	if !e.rereading.CompareAndSwap(false, true) {
		return
	}
	e.clock.AfterFunc(max(rereadAfter, rereadShare*time.Duration(e.rereadTook.Load())), func() {
		e.rereading.Store(false)
		began := e.now()
		e.readRoutes()
		e.rereadTook.Store(e.now() - began)
		e.chooseAll()
	})
}

// readRoutes reads the MTUs of the routes of all SAs. Other operations on devices take turns
// with it.
func (e *Engine) readRoutes() {
	for part := range slices.Chunk(e.sas.All(), saPiece) {
		e.devMu.Lock()
		for _, sa := range part {
			if !e.closed {
				e.readRouteLocked(sa, nil)
			}
		}
		e.devMu.Unlock()
	}
}

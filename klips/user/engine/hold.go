package engine

import (
	"bytes"
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Limits of what traps and holds keep: packets to ever new addresses must not
// fill the memory.
const (
	// maxHolds is for how many eroutes packets are kept; one more gives up the
	// oldest.
	maxHolds = 1024
	// holdAge is how long packets wait for an eroute to be replaced. Key daemons
	// have that long to answer; XFRM gives them the same (xfrm_acq_expires).
	holdAge = 30 * time.Second
)

// holds keeps the packets that wait for an eroute to be replaced: of each %hold
// the first, which caused it, and the last. It is off the fast path: there is a
// lock, and packets are copied.
type holds struct {
	mu      sync.Mutex
	byRoute map[*eroute.Entry]*held
	byAge   list.List   // of *held, the oldest first
	timer   clock.Timer // for the oldest; nil when there is none
	closed  bool
	memory  atomic.Int64 // what the packets take, in bytes

	expired, evicted atomic.Uint64
}

// HoldStats counts what the limits of traps and holds do.
type HoldStats struct {
	Held    int    `json:"held"`    // eroutes that packets are kept for
	Max     int    `json:"max"`     // how many of these there can be
	Expired uint64 `json:"expired"` // given up because nothing took their place in time
	Evicted uint64 `json:"evicted"` // given up for newer ones
}

// held is what is kept for one %hold eroute.
type held struct {
	route       *eroute.Entry
	since       int64 // nanoseconds of the engine's clock, 0: from now on
	first, last *heldPacket
	trap        klips.SPI // what made the eroute: SPITrap, SPITrapSubnet, or 0: a command
	inPlace     bool      // the eroute stands in the place of the trap
	age         *list.Element
}

// size returns how many bytes the packets take.
func (h *held) size() int64 { return h.first.size() + h.last.size() }

// A heldPacket is a copy of a packet and the device that it came out of.
type heldPacket struct {
	dev   *device
	bytes []byte
	cut   bool // the host had cut it
}

// size returns how many bytes a packet takes; p may be nil.
func (p *heldPacket) size() int64 {
	if p == nil {
		return 0
	}
	return int64(len(p.bytes))
}

// drop counts a packet that was kept in vain; p may be nil. KLIPS counts nothing.
func (p *heldPacket) drop(why drop.Reason) {
	if p != nil {
		p.dev.stats.drop(why, nil, nil)
	}
}

// take removes what is held for an eroute and returns it in order.
func (hs *holds) take(r *eroute.Entry) []*heldPacket {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.byRoute[r]
	if h == nil {
		return nil
	}
	hs.removeLocked(h)
	var l []*heldPacket
	for _, p := range []*heldPacket{h.first, h.last} {
		if p != nil {
			l = append(l, p)
		}
	}
	return l
}

// end drops what is held for an eroute that has been deleted.
func (hs *holds) end(r *eroute.Entry) {
	for _, p := range hs.take(r) {
		p.drop(drop.HoldEnded)
	}
}

func (hs *holds) removeLocked(h *held) {
	hs.memory.Add(-h.size())
	delete(hs.byRoute, h.route)
	hs.byAge.Remove(h.age)
}

// keepHoldLocked begins to keep packets for an eroute, and gives up the oldest if
// they are too many. false: the engine is closing and keeps none.
func (e *Engine) keepHoldLocked(h *held) bool {
	hs := &e.holds
	if hs.closed {
		return false
	}
	for len(hs.byRoute) >= maxHolds {
		e.giveUpLocked(hs.oldestLocked(), drop.HoldFull)
		hs.evicted.Add(1)
	}
	hs.memory.Add(h.size())
	if h.since == 0 {
		h.since = e.now()
	}
	h.age = hs.byAge.PushBack(h)
	hs.byRoute[h.route] = h
	if hs.timer == nil {
		hs.timer = e.clock.AfterFunc(holdAge, e.expireHolds)
	}
	return true
}

func (hs *holds) oldestLocked() *held {
	if f := hs.byAge.Front(); f != nil {
		return f.Value.(*held)
	}
	return nil
}

// giveUpLocked drops the packets that are kept for an eroute. The eroute goes if
// a trap made it: the trap counts again, so the flow stays as closed as it was,
// and its next packet asks key daemons once more.
func (e *Engine) giveUpLocked(h *held, why drop.Reason) {
	e.holds.removeLocked(h)
	h.first.drop(why)
	h.last.drop(why)
	switch {
	case h.trap == 0:
	case h.inPlace:
		r := h.route.Eroute()
		r.ID = klips.Magic(h.trap)
		e.routes.Exchange(h.route, r)
	default:
		e.routes.Remove(h.route)
	}
}

// expireHolds gives up what has been kept too long. The clock calls it.
func (e *Engine) expireHolds() {
	hs := &e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.timer = nil
	if hs.closed {
		return
	}
	for h := hs.oldestLocked(); h != nil; h = hs.oldestLocked() {
		left := h.since + int64(holdAge) - e.now()
		if left > 0 {
			hs.timer = e.clock.AfterFunc(time.Duration(left), e.expireHolds)
			return
		}
		e.giveUpLocked(h, drop.HoldExpired)
		hs.expired.Add(1)
	}
}

// close drops all packets; the eroutes stay as they are.
func (hs *holds) close() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.closed = true
	if hs.timer != nil {
		hs.timer.Stop()
	}
	for _, h := range hs.byRoute {
		hs.memory.Add(-h.size())
	}
	clear(hs.byRoute)
	hs.byAge.Init()
}

// Holds returns how many eroutes packets are kept for, and what the limits of
// that have done.
func (e *Engine) Holds() HoldStats {
	hs := &e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return HoldStats{
		Held: len(hs.byRoute), Max: maxHolds, Expired: hs.expired.Load(), Evicted: hs.evicted.Load(),
	}
}

// hold keeps a packet that met %hold eroute r as its last. A packet that was the
// last one is dropped. false: the eroute has been replaced meanwhile.
func (w *outWorker) hold(b *packet.Buffer, r *eroute.Entry) bool {
	ok, why := w.keepLast(b, r)
	if why != drop.None {
		w.drop(why, nil)
	}
	return ok
}

// keepLast returns why a packet is dropped: this one or the one that was the last.
func (w *outWorker) keepLast(b *packet.Buffer, r *eroute.Entry) (ok bool, why drop.Reason) {
	hs := &w.e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if w.e.routes.Get(r.Selector) != r {
		return false, drop.None
	}
	h := hs.byRoute[r]
	if h == nil {
		h = &held{route: r}
		if !w.e.keepHoldLocked(h) {
			return true, drop.HoldEnded
		}
	}
	if w.e.room(int64(b.Len())) != nil {
		return true, drop.HoldFull // the last one stays
	}
	if h.last != nil {
		why = drop.ErouteHold
	}
	hs.memory.Add(int64(b.Len()) - h.last.size())
	h.last = w.keep(b)
	return true, why
}

func (w *outWorker) keep(b *packet.Buffer) *heldPacket {
	return &heldPacket{w.d, bytes.Clone(b.Bytes()), w.cut}
}

// trap handles a packet that met %trap or %trapsubnet eroute r: key daemons are
// asked for an SA, and if one was there to hear it, a %hold takes the packets
// that follow and keeps this one. The packet counts in tx_dropped either way.
func (w *outWorker) trap(b *packet.Buffer, h *packet.Header, sel *eroute.Packet, r *eroute.Entry) {
	if !w.keepFirst(b, h, sel, r) {
		w.drop(drop.ErouteTrap, nil)
		return
	}
	w.d.stats.txDropped.Add(1)
	if w.tracing {
		w.outcome("kept", drop.ErouteTrap.String())
	}
}

// keepFirst reports whether a packet that met a trap is kept as the first of a %hold.
func (w *outWorker) keepFirst(b *packet.Buffer, h *packet.Header, sel *eroute.Packet, r *eroute.Entry) bool {
	a := &Acquisition{Src: netip.AddrPortFrom(h.Src, 0), Dst: netip.AddrPortFrom(h.Dst, 0), Trap: r.Eroute()}
	if r.Proto != 0 {
		a.Proto = h.Proto
	}
	if r.SrcPort != 0 {
		a.Src = netip.AddrPortFrom(h.Src, sel.SrcPort)
	}
	if r.DstPort != 0 {
		a.Dst = netip.AddrPortFrom(h.Dst, sel.DstPort)
	}
	hs := &w.e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if w.e.routes.Get(r.Selector) != r {
		return false // another packet has made it a hold
	}
	if w.e.room(erouteCost+int64(b.Len())) != nil {
		return false // nobody is asked where the answer could not be waited for
	}
	if !(*w.e.events.Load()).Acquire(a) {
		return false // nobody was told: the next packet tries again
	}
	e := r.Eroute()
	e.ID = klips.Magic(klips.SPIHold)
	if r.ID.SPI == klips.SPITrap {
		e.Selector = hostPair(h, sel, r)
		e.Packets = 0
	}
	var old *eroute.Entry
	if e.Selector == r.Selector {
		old = r
	}
	// What has come meanwhile for these packets stays: it is newer than the trap.
	made := w.e.routes.Exchange(old, e)
	if made == nil {
		return false
	}
	return w.e.keepHoldLocked(&held{route: made, trap: r.ID.SPI, inPlace: old != nil, first: w.keep(b)})
}

// hostPair is the selector of the hold that a packet which met trap r makes: its
// own addresses, and as much of protocol and ports as the trap has.
func hostPair(h *packet.Header, sel *eroute.Packet, r *eroute.Entry) klips.Selector {
	s := klips.Selector{
		Src: netip.PrefixFrom(h.Src, h.Src.BitLen()),
		Dst: netip.PrefixFrom(h.Dst, h.Dst.BitLen()),
	}
	if r.Proto != 0 {
		s.Proto = h.Proto
	}
	if r.SrcPort != 0 {
		s.SrcPort = sel.SrcPort
	}
	if r.DstPort != 0 {
		s.DstPort = sel.DstPort
	}
	return s
}

// release sends the packets that were held for an eroute again, each into the
// device that it came from, where it is looked up afresh.
func (e *Engine) release(l []*heldPacket) {
	if len(l) == 0 {
		return
	}
	e.injectMu.Lock()
	defer e.injectMu.Unlock()
	for _, p := range l {
		w := newOutWorker(e, p.dev, injectWorker, 1)
		w.sizes[0] = copy(w.views[0][packet.Headroom:], p.bytes)
		w.held = p.cut
		w.batch(1)
	}
}

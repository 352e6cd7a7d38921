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

// Limits of the packets that traps and holds keep. Packets to always new addresses must
// not fill the memory.
const (
	// maxHolds is the largest number of eroutes with kept packets. One more drops the
	// packets of the oldest.
	maxHolds = 1024
	// holdAge is how long packets wait until their eroute is replaced. Key daemons must
	// answer in that time; XFRM has the same limit (xfrm_acq_expires).
	holdAge = 30 * time.Second
)

// holds keeps the packets that wait until their eroute is replaced. For each %hold it
// keeps the first packet, which caused it, and the last. It is not on the fast path: it
// has a lock and copies packets.
type holds struct {
	mu      sync.Mutex
	byRoute map[*eroute.Entry]*held
	byAge   list.List   // of *held, the oldest first
	timer   clock.Timer // for the oldest; nil when there is none
	closed  bool
	memory  atomic.Int64 // bytes of the packets

	expired, evicted atomic.Uint64
}

// HoldStats counts what the limits of traps and holds have done.
type HoldStats struct {
	Held    int    `json:"held"`    // eroutes with kept packets
	Max     int    `json:"max"`     // the limit of Held
	Expired uint64 `json:"expired"` // given up because they were not replaced in time
	Evicted uint64 `json:"evicted"` // given up for newer ones
}

// held has the packets that are kept for one %hold eroute.
type held struct {
	route       *eroute.Entry
	since       int64 // nanoseconds of the engine's clock, 0: from now on
	first, last *heldPacket
	trap        klips.SPI // which eroute made the %hold: SPITrap, SPITrapSubnet, or 0: a command
	inPlace     bool      // the %hold has replaced the trap
	age         *list.Element
}

// size returns how many bytes the packets have.
func (h *held) size() int64 { return h.first.size() + h.last.size() }

// A heldPacket is a copy of a packet, and the device that it was read from.
type heldPacket struct {
	dev   *device
	bytes []byte
	cut   bool // the host had fragmented it
}

// size returns how many bytes a packet has; p may be nil.
func (p *heldPacket) size() int64 {
	if p == nil {
		return 0
	}
	return int64(len(p.bytes))
}

// drop counts a kept packet that is dropped; p may be nil. KLIPS does not count it.
func (p *heldPacket) drop(e *Engine, why drop.Reason) {
	if p != nil {
		p.dev.stats.drop(why, nil, nil)
		e.lastDrops.note(why, e.now(), p.dev, false, p.bytes, nil)
	}
}

// take removes the packets that are kept for an eroute and returns them in order.
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

// endHold drops the packets that are kept for an eroute that was deleted.
func (e *Engine) endHold(r *eroute.Entry) {
	for _, p := range e.holds.take(r) {
		p.drop(e, drop.HoldEnded)
	}
}

func (hs *holds) removeLocked(h *held) {
	hs.memory.Add(-h.size())
	delete(hs.byRoute, h.route)
	hs.byAge.Remove(h.age)
}

// keepHoldLocked begins to keep packets for an eroute. If there are too many, it gives up
// the oldest. false: the engine is closing and keeps none.
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

// giveUpLocked drops the packets that are kept for an eroute. If a trap made the eroute,
// it is removed, and the trap matches again. So the flow is never in clear, and its next
// packet asks key daemons again.
func (e *Engine) giveUpLocked(h *held, why drop.Reason) {
	e.holds.removeLocked(h)
	h.first.drop(e, why)
	h.last.drop(e, why)
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

// expireHolds gives up the eroutes that have waited too long. The clock calls it.
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

// close drops all kept packets. The eroutes stay.
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

// Holds returns how many eroutes packets are kept for, and what the limits have done.
func (e *Engine) Holds() HoldStats {
	hs := &e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return HoldStats{
		Held: len(hs.byRoute), Max: maxHolds, Expired: hs.expired.Load(), Evicted: hs.evicted.Load(),
	}
}

// hold keeps a packet that met %hold eroute r as its last packet. The last packet before
// is dropped. false: the eroute has been replaced meanwhile.
func (w *outWorker) hold(b *packet.Buffer, r *eroute.Entry) bool {
	ok, why := w.keepLast(b, r)
	if why != drop.None {
		w.drop(b, why, nil)
	}
	return ok
}

// keepLast keeps the packet. why is the reason if this packet or the last one before is
// dropped.
func (w *outWorker) keepLast(b *packet.Buffer, r *eroute.Entry) (ok bool, why drop.Reason) {
	hs := &w.e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if w.e.routes.Get(r.Selector()) != r {
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
		return true, drop.HoldFull // the last one before stays
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

// trap handles a packet that met %trap or %trapsubnet eroute r. It asks key daemons for
// an SA. If one receives the message, a %hold keeps this packet and takes the packets
// that follow. The packet counts in tx_dropped in both cases.
func (w *outWorker) trap(b *packet.Buffer, h *packet.Header, sel *eroute.Packet, r *eroute.Entry) {
	if !w.keepFirst(b, h, sel, r) {
		w.drop(b, drop.ErouteTrap, nil)
		return
	}
	w.d.stats.txDropped.Add(1)
	if w.tracing {
		w.outcome("kept", drop.ErouteTrap.String())
	}
}

// keepFirst reports whether a packet that met a trap is kept as the first of a %hold.
func (w *outWorker) keepFirst(b *packet.Buffer, h *packet.Header, sel *eroute.Packet, r *eroute.Entry) bool {
	trap := r.Eroute()
	a := &Acquisition{Src: netip.AddrPortFrom(h.Src, 0), Dst: netip.AddrPortFrom(h.Dst, 0), Trap: trap}
	if trap.Proto != 0 {
		a.Proto = h.Proto
	}
	if trap.SrcPort != 0 {
		a.Src = netip.AddrPortFrom(h.Src, sel.SrcPort)
	}
	if trap.DstPort != 0 {
		a.Dst = netip.AddrPortFrom(h.Dst, sel.DstPort)
	}
	hs := &w.e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if w.e.routes.Get(r.Selector()) != r {
		return false // another packet has made the %hold
	}
	if w.e.room(erouteCost+int64(b.Len())) != nil {
		return false // ask no key daemon if the packet cannot wait for the answer
	}
	if !(*w.e.events.Load()).Acquire(a) {
		return false // no key daemon has received it: the next packet asks again
	}
	e := r.Eroute()
	e.ID = klips.Magic(klips.SPIHold)
	if r.ID.SPI == klips.SPITrap {
		e.Selector = hostPair(h, sel, trap.Selector)
		e.Packets = 0
	}
	var old *eroute.Entry
	if e.Selector == trap.Selector {
		old = r
	}
	// An eroute that was made meanwhile for these packets stays: it is newer than the
	// trap.
	made := w.e.routes.Exchange(old, e)
	if made == nil {
		return false
	}
	return w.e.keepHoldLocked(&held{route: made, trap: r.ID.SPI, inPlace: old != nil, first: w.keep(b)})
}

// hostPair returns the selector of the %hold that a packet makes which met a trap. It has
// the packet's own addresses. It has its protocol and ports if the trap has them.
func hostPair(h *packet.Header, sel *eroute.Packet, trap klips.Selector) klips.Selector {
	s := klips.Selector{
		Src: netip.PrefixFrom(h.Src, h.Src.BitLen()),
		Dst: netip.PrefixFrom(h.Dst, h.Dst.BitLen()),
	}
	if trap.Proto != 0 {
		s.Proto = h.Proto
	}
	if trap.SrcPort != 0 {
		s.SrcPort = sel.SrcPort
	}
	if trap.DstPort != 0 {
		s.DstPort = sel.DstPort
	}
	return s
}

// release sends the packets that were held for an eroute again. Each goes to the device
// that it came from, and its eroute is looked up again.
func (e *Engine) release(l []*heldPacket) {
	if len(l) == 0 {
		return
	}
	e.injectMu.Lock()
	defer e.injectMu.Unlock()
	var w *outWorker
	for _, p := range l {
		if w == nil || w.d != p.dev { // mostly all are of one device
			w = newOutWorker(e, p.dev, injectWorker, packet.NewBuffers(1))
			w.alone = true
		}
		w.bufs[0].Put(p.bytes)
		w.bufs[0].Cut = p.cut
		w.batch(1)
	}
}

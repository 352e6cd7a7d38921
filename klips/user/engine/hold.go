package engine

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// holds keeps the packets that wait for an eroute to be replaced: of each %hold
// the first, which caused it, and the last. It is off the fast path: there is a
// lock, and packets are copied.
type holds struct {
	mu      sync.Mutex
	byRoute map[*eroute.Entry]*held

	traps, acquires atomic.Uint64 // packets that met a trap; messages delivered
}

type held struct{ first, last *heldPacket }

// A heldPacket is a copy of a packet and the device that it came out of.
type heldPacket struct {
	dev   *device
	bytes []byte
}

// take removes what is held for an eroute and returns it in order.
func (hs *holds) take(r *eroute.Entry) []*heldPacket {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.takeLocked(r)
}

func (hs *holds) takeLocked(r *eroute.Entry) []*heldPacket {
	h := hs.byRoute[r]
	if h == nil {
		return nil
	}
	delete(hs.byRoute, r)
	var l []*heldPacket
	for _, p := range []*heldPacket{h.first, h.last} {
		if p != nil {
			l = append(l, p)
		}
	}
	return l
}

// hold keeps a packet that met %hold eroute r as its last. A packet that was the
// last one is dropped. false: the eroute has been replaced meanwhile.
func (w *outWorker) hold(b *packet.Buffer, r *eroute.Entry) bool {
	hs := &w.e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if w.e.routes.Get(r.Selector) != r {
		return false
	}
	h := hs.byRoute[r]
	if h == nil {
		h = new(held)
		hs.byRoute[r] = h
	}
	if h.last != nil {
		w.drop()
	}
	h.last = w.keep(b)
	return true
}

func (w *outWorker) keep(b *packet.Buffer) *heldPacket {
	return &heldPacket{w.d, bytes.Clone(b.Bytes())}
}

// trap handles a packet that met %trap or %trapsubnet eroute r: key daemons are
// asked for an SA, and if one was there to hear it, a %hold takes the packets
// that follow and keeps this one. The packet counts as dropped either way.
func (w *outWorker) trap(b *packet.Buffer, h *packet.Header, sel *eroute.Packet, r *eroute.Entry) {
	hs := &w.e.holds
	hs.traps.Add(1)
	w.drop()
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
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if w.e.routes.Get(r.Selector) != r {
		return // another packet has made it a hold
	}
	if !(*w.e.events.Load()).Acquire(a) {
		return // nobody was told: the next packet tries again
	}
	hs.acquires.Add(1)
	e := r.Eroute()
	e.ID = klips.Magic(klips.SPIHold)
	if r.ID.SPI == klips.SPITrap {
		e.Selector = hostPair(h, sel, r)
		e.Packets = 0
	}
	old, err := w.e.routes.Replace(e)
	if err != nil {
		return
	}
	if old != nil && old != r {
		hs.takeLocked(old) // a hold for the same hosts from another trap: freed
	}
	if made := w.e.routes.Get(e.Selector); made != nil {
		hs.byRoute[made] = &held{first: w.keep(b)}
	}
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
		w.batch(1)
	}
}

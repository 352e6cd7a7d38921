package engine

import (
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/reassembly"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Transport mode protects whole datagrams, and fragments them afterwards (RFC 4303
// section 3.3.4, RFC 4302 section 3.3.4). But the host fragments datagrams that are
// longer than the MTU of ipsecN, or than a path MTU that it has learned, before they
// reach the engine. So the engine reassembles them before it decides about them. Only the
// first fragment has the ports by which an eroute may be chosen.

// cutMemory is how many bytes of fragments can wait for others, for each device.
const cutMemory = 1 << 20

// cutPackets are the incomplete datagrams of a device. The zero value has none.
type cutPackets struct {
	mu     sync.Mutex        // guards the fields below
	table  *reassembly.Table // nil before the first fragment
	timer  clock.Timer       // for the oldest; nil: there are none
	closed bool
}

// whole reports whether the fragment in b, with header h, goes on: it need not be
// reassembled, or it completes its datagram, which is in b and h then.
func (w *outWorker) whole(b *packet.Buffer, h *packet.Header) bool {
	w.att.cut.mu.Lock()
	defer w.att.cut.mu.Unlock()
	return !w.joins(b, h) || w.join(b, h)
}

// joins reports whether the fragment in b, with header h, must be reassembled. It must if
// this host has sent the datagram. It must if an SA in transport mode protects the
// datagram. It must also if the first fragment has matched an eroute by its ports, and
// arrives before the others. The kernel of a gateway makes such fragments when it routes
// a datagram into ipsecN; with the large MTU of KLIPS it makes none.
func (w *outWorker) joins(b *packet.Buffer, h *packet.Header) bool {
	if w.e.host.IsLocal(h.Src) {
		return true
	}
	s := selector(b.Bytes(), h)
	r := w.routes.Lookup(&s)
	if r != nil && !r.ID.IsMagic() {
		sa := w.e.choose(r, h, &s)
		hasPorts := r.HasPorts() && w.e.knobs.mtuRule.Load() != mtuKLIPS
		if sa != nil && (hasPorts || !hasTunnel(sa.Chain())) {
			return true
		}
	}
	return w.att.cut.table != nil && w.att.cut.table.Has(b.Bytes(), h)
}

// join takes a fragment. true: the datagram is complete; b and h are the datagram, which
// may be fragmented again.
func (w *outWorker) join(b *packet.Buffer, h *packet.Header) bool {
	c := &w.att.cut
	if c.closed {
		w.d.stats.drop(drop.Detached, nil, nil)
		return false
	}
	if c.table == nil {
		stats := &w.d.stats
		c.table = reassembly.New(cutMemory, func(n int) {
			for range n {
				stats.drop(drop.Fragments, nil, &stats.txErrors)
			}
		})
	}
	switch c.table.Add(b, h, w.now) {
	case reassembly.Whole:
		var ok bool
		if *h, ok = packet.ParseIP(b.Bytes()); !ok {
			w.error(b, drop.BadPacket, nil)
			return false
		}
		b.Cut = true
		return true
	case reassembly.Waiting:
		if c.timer == nil {
			w.e.expireFragments(w.att)
		}
		if w.tracing {
			w.outcome("kept", "a fragment, which waits for others")
		}
	default:
		w.error(b, drop.Fragments, nil)
	}
	return false
}

// expireFragments drops the incomplete datagrams that have waited too long, and sets the
// timer for the next one. The caller holds a.cut.mu.
func (e *Engine) expireFragments(a *attachment) {
	a.cut.timer = nil
	now := e.now()
	next := a.cut.table.Expire(now)
	if next == 0 {
		return
	}
	a.cut.timer = e.clock.AfterFunc(time.Duration(next-now), func() {
		a.cut.mu.Lock()
		defer a.cut.mu.Unlock()
		if !a.cut.closed {
			e.expireFragments(a)
		}
	})
}

// close drops all fragments, and those that come later.
func (c *cutPackets) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.table == nil {
		return
	}
	c.table.Clear()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// cutAgain reports whether a datagram that the host had fragmented goes into a tunnel in
// pieces. It does if the whole would be longer than the largest packet. Otherwise the
// protected packet is fragmented, as in KLIPS, so that the peer knows the ports of the
// whole datagram.
func cutAgain(h *packet.Header, group []*sadb.SA) bool {
	front, behind := added(shapeOf(h), group)
	return hasTunnel(group) && h.Total+front+behind > packet.MaxSize
}

// inPieces sends a datagram through the group that sa begins, in pieces as long as possible.
// r is its eroute.
func (w *outWorker) inPieces(b *packet.Buffer, h *packet.Header, r *eroute.Entry, sa *sadb.SA) {
	group := sa.Chain()
	mtu := longest(shapeOf(h), group, w.limit(group))
	w.cut = false // each piece is a packet of its own
	if w.piece.B == nil {
		w.piece.B = make([]byte, packet.BufferSize)
	}
	p := &w.piece
	fragment(b, h, mtu, uint32(w.e.ipID.Add(1)), func(f *packet.Buffer) {
		p.Put(f.Bytes())
		piece, ok := packet.ParseIP(p.Bytes())
		if !ok {
			w.error(p, drop.BadPacket, nil)
			return
		}
		w.protect(p, &piece, r, sa)
		w.flush() // p is reused for the next piece
	})
}

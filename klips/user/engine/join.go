package engine

import (
	"time"

	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/reassembly"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Transport mode protects whole datagrams, and what is too long afterwards is cut then
// (RFC 4303 section 3.3.4, RFC 4302 section 3.3.4). But the host cuts what is longer than
// the MTU of ipsecN, or than a path MTU that it has learned, before the packets come here.
// So they are put together again before anything is decided about them. Only the first
// fragment has the ports by which an eroute may be chosen.

// cutMemory is what the fragments take, for each device, that wait for others, in bytes.
const cutMemory = 1 << 20

// cutPackets are datagrams of which a device has got some fragments. The zero value has
// none.
type cutPackets struct {
	table *reassembly.Table // nil before the first fragment
	timer clock.Timer       // for the oldest; nil while there are none
}

// joins reports whether the fragment in b, which has header h, is put together with the
// others of its datagram: those of the host itself; those of others that go through an SA in
// transport mode; and those of others whose first fragment has the ports of an eroute, if
// that one comes before the others. The kernel of a gateway makes such fragments when it
// routes a datagram into ipsecN, which with the MTU of KLIPS it does not.
func (w *outWorker) joins(b *packet.Buffer, h *packet.Header) bool {
	if w.e.host.IsLocal(h.Src) {
		return true
	}
	s := selector(b.Bytes(), h)
	r := w.e.routes.Lookup(&s)
	if r != nil && !r.ID.IsMagic() {
		sa := w.e.sas.Lookup(r.ID)
		hasPorts := r.SrcPort|r.DstPort != 0 && w.e.knobs.mtuRule.Load() != mtuKLIPS
		if sa != nil && (hasPorts || !hasTunnel(sa.Chain())) {
			return true
		}
	}
	return w.att.cut.table != nil && w.att.cut.table.Has(b.Bytes(), h)
}

// join takes a fragment. true: it was the last one that was missing, b and h are the whole
// datagram's now, and it may be cut again.
func (w *outWorker) join(b *packet.Buffer, h *packet.Header) bool {
	c := &w.att.cut
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
			w.error(drop.BadPacket, nil)
			return false
		}
		w.cut = true
		return true
	case reassembly.Waiting:
		if c.timer == nil {
			w.e.expireFragments(w.att)
		}
		if w.tracing {
			w.outcome("kept", "a fragment, which waits for others")
		}
	default:
		w.error(drop.Fragments, nil)
	}
	return false
}

// expireFragments gives up the datagrams whose fragments have not come in time, and looks
// again when the next one may be such. The caller holds a.mu.
func (e *Engine) expireFragments(a *attachment) {
	a.cut.timer = nil
	now := e.now()
	next := a.cut.table.Expire(now)
	if next == 0 {
		return
	}
	a.cut.timer = e.clock.AfterFunc(time.Duration(next-now), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.retired {
			e.expireFragments(a)
		}
	})
}

// close gives up all fragments.
func (c *cutPackets) close() {
	if c.table == nil {
		return
	}
	c.table.Clear()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// cutAgain reports whether a datagram that the host had cut goes into a tunnel in pieces:
// as a whole it would be longer than any packet may be. Else what protects it is cut, as
// with KLIPS, so that the far end knows the ports of all of it.
func cutAgain(h *packet.Header, group []*sadb.SA) bool {
	front, behind := overhead(shapeOf(h), group)
	return hasTunnel(group) && h.Total+front+behind > packet.MaxSize
}

// inPieces sends a datagram in pieces, as long as fits, through the group of eroute r.
func (w *outWorker) inPieces(b *packet.Buffer, h *packet.Header, r *eroute.Entry, group []*sadb.SA) {
	mtu := longest(shapeOf(h), group, w.limit(group))
	w.cut = false // from here on each is a packet of its own
	if w.piece.B == nil {
		w.piece.B = make([]byte, bufferSize)
	}
	p := &w.piece
	fragment(b, h, mtu, uint32(w.e.ipID.Add(1)), func(f *packet.Buffer) {
		p.Off = packet.Headroom
		p.End = p.Off + copy(p.B[p.Off:], f.Bytes())
		piece, ok := packet.ParseIP(p.Bytes())
		if !ok {
			w.error(drop.BadPacket, nil)
			return
		}
		w.protect(p, &piece, r)
		w.flush() // p is for the next one
	})
}

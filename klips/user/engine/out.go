package engine

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// maxNesting is how many times a packet may match another eroute after it was protected
// (tunnel in tunnel by routing, KLIPS 2.4.4).
const maxNesting = 4

// An outWorker takes the packets that are routed into one device, or those of one lane of
// them. One goroutine owns all its fields, and ends when the link closes. It may have borrowed
// the inbound worker (loan.go).
type outWorker struct {
	e      *Engine
	d      *device
	id     worker
	others lanes // nil: all packets are in lane 0, or this is a helper
	helps  bool  // it is a helper
	alone  bool  // no other worker of the device may work during a batch
	routes *eroute.Cache
	bufs   []*packet.Buffer
	ready  []*packet.Buffer // packets for one call of Send, see flush
	lay    unfinished       // those of them that are not finished, and others that were dropped
	att    *attachment      // the attachment of the current batch
	now    int64
	icmp   icmpWriter
	piece  packet.Buffer // see inPieces
	cut    bool          // Buffer.Cut of the current packet

	// fail counts a packet that the wire could not send.
	fail   func(b *packet.Buffer, err error)
	failed int    // how many in one call of Send
	full   func() // is called before Send waits

	borrowed

	// tracing: the debug log needs lines about packets. Then first is the header of the
	// current packet as it was read.
	tracing bool
	first   packet.Header
}

// newOutWorker makes a worker whose packets are in bufs, or come in parcels.
func newOutWorker(e *Engine, d *device, id worker, bufs []*packet.Buffer) *outWorker {
	w := &outWorker{
		e: e, d: d, id: id, routes: e.routes.NewCache(),
		bufs:  bufs,
		ready: make([]*packet.Buffer, 0, batchSize),
		lay:   newUnfinished(),
	}
	w.full = w.giveBack
	w.fail = func(b *packet.Buffer, err error) {
		w.failed++
		w.note(b, drop.NotSent, nil)
		if w.tracing {
			w.outcome("not sent", drop.NotSent.String(), slog.String("error", err.Error()))
		}
	}
	return w
}

func (w *outWorker) run() {
	defer close(w.d.done)
	w.others = newLanes(w.e.lanes-1, func(lane int) helper {
		h := newOutWorker(w.e, w.d, sends(w.d, lane), nil)
		h.helps = true
		return h
	})
	defer w.others.end()
	defer w.giveBack()
	for {
		n, err := w.read()
		if errors.Is(err, os.ErrClosed) {
			if w.d.closing.CompareAndSwap(false, true) {
				go w.e.vanished(w.d) // vanished waits for this goroutine
			}
			return
		}
		if err != nil {
			w.d.stats.drop(drop.NotRead, nil, nil)
		}
		if n > 0 {
			for _, b := range w.bufs[:n] {
				b.Cut = false
			}
			w.batch(n)
		}
		if inStep {
			w.others.wait()
		}
		w.turn(n)
	}
}

func (w *outWorker) handle(p parcel) {
	w.bufs = p.bufs
	w.batch(p.n)
}

// batch handles n packets.
func (w *outWorker) batch(n int) {
	w.att = w.d.att.Load()
	if w.att == nil {
		w.detached(n)
		return
	}
	w.now = w.e.now()
	w.tracing = w.e.trace.any.Load()
	if w.others != nil {
		n = w.share(n) // may wait for a lane, which needs att.mu
	}
	mu := w.att.mu.RLocker()
	if w.alone {
		mu = &w.att.mu
	}
	mu.Lock()
	defer mu.Unlock()
	if w.att.retired {
		w.detached(n)
		return
	}
	for _, b := range w.bufs[:n] {
		w.packet(b)
	}
	w.flush()
}

// detached drops n packets of a device without an attachment. KLIPS does not count them.
func (w *outWorker) detached(n int) {
	now := w.e.now()
	for _, b := range w.bufs[:n] {
		w.d.stats.drop(drop.Detached, nil, nil)
		w.e.lastDrops.note(drop.Detached, now, w.d, false, b.Bytes(), nil)
	}
}

// flush finishes and sends the packets in ready and counts them. Afterwards all buffers
// can be used again.
func (w *outWorker) flush() {
	w.lay.finish()
	if len(w.ready) == 0 {
		return
	}
	n := len(w.ready)
	w.failed = 0
	w.transmit()
	w.d.stats.txPackets.Add(uint64(n - w.failed))
	for range w.failed {
		w.d.stats.drop(drop.NotSent, nil, &w.d.stats.txErrors)
	}
}

// drop counts packet b that is dropped by a rule of the stack or of an SA (nil: of no SA).
func (w *outWorker) drop(b *packet.Buffer, why drop.Reason, sa *sadb.SA) {
	counter := &w.d.stats.txDropped
	if why == drop.ErouteUnknown {
		counter = nil // KLIPS does not count these
	}
	w.d.stats.drop(why, sa, counter)
	w.note(b, why, sa)
	if w.tracing {
		w.outcome("dropped", why.String())
	}
}

// error counts packet b that cannot be sent because of an SA (nil: of no SA).
func (w *outWorker) error(b *packet.Buffer, why drop.Reason, sa *sadb.SA) {
	w.d.stats.drop(why, sa, &w.d.stats.txErrors)
	w.note(b, why, sa)
	if w.tracing {
		w.outcome("not sent", why.String())
	}
}

// note records packet b as dropped.
func (w *outWorker) note(b *packet.Buffer, why drop.Reason, sa *sadb.SA) {
	w.e.lastDrops.note(why, w.now, w.d, false, b.Bytes(), sa)
}

// outcome writes into the debug log what happens to the current packet, and why, if a
// reason is given.
func (w *outWorker) outcome(what, why string, attrs ...slog.Attr) {
	t := &w.e.trace
	if !t.on(klips.DebugTunnel, debugXmit) {
		return
	}
	attrs = append([]slog.Attr{slog.String("device", w.d.link.Name()), flow(&w.first)}, attrs...)
	if why != "" {
		attrs = append(attrs, slog.String("why", why))
	}
	t.line("tunnel", what, attrs...)
}

// decided writes into the debug log which eroute matches the current packet, if it was
// looked up.
func (w *outWorker) decided(s *eroute.Packet, d decision) {
	if d.why != drop.IPOptions && d.why != drop.TTL {
		w.searched(s, d.route)
	}
}

// searched writes into the debug log which eroute was found.
func (w *outWorker) searched(s *eroute.Packet, r *eroute.Entry) {
	t := &w.e.trace
	if !t.on(klips.DebugRadij, allBits) {
		return
	}
	attrs := []slog.Attr{slog.String("src", netip.AddrPortFrom(s.Src, s.SrcPort).String()),
		slog.String("dst", netip.AddrPortFrom(s.Dst, s.DstPort).String()), slog.Int("proto", int(s.Proto))}
	if r == nil {
		t.line("radij", "no eroute", attrs...)
		return
	}
	t.line("radij", "eroute found", append(attrs, slog.String("eroute", r.Selector().String()), slog.String("said", r.ID.String()))...)
}

// grouped writes into the debug log which SAs transform the current packet.
func (w *outWorker) grouped(chain []*sadb.SA) {
	t := &w.e.trace
	if !t.on(klips.DebugXform, allBits) {
		return
	}
	var ids []string
	for _, sa := range chain {
		ids = append(ids, sa.ID.String())
	}
	t.line("xform", "transforms in order", flow(&w.first), slog.String("saids", strings.Join(ids, " ")))
}

// packet carries out the decision about one packet.
func (w *outWorker) packet(b *packet.Buffer) {
	h, ok := packet.ParseIP(b.Bytes())
	if w.tracing {
		w.first = h
	}
	if !ok {
		w.error(b, drop.BadPacket, nil)
		return
	}
	b.End = b.Off + h.Total
	if h.Frag && !w.helps && !w.whole(b, &h) {
		return
	}
	w.cut = b.Cut
	h.DF = h.DF && !w.cut
	sel := selector(b.Bytes(), &h)
	d := w.e.decide(b.Bytes(), &h, &sel, w.routes)
	if w.tracing {
		w.decided(&sel, d)
	}
	if d.route != nil && d.do != bypass {
		w.count(d.route)
	}
	switch d.do {
	case bypass:
		w.send(b, &h, false, nil, ownTraffic) // DF is ignored: IKE messages are long
	case pass:
		w.send(b, &h, h.DF, nil, passed)
	case protect:
		w.protect(b, &h, d.route, w.e.choose(d.route, &h, &sel))
	case hold:
		if !w.hold(b, d.route) {
			w.packet(b) // again, with the eroute that has replaced it
		}
	case trap:
		w.trap(b, &h, &sel, d.route)
	case reject:
		w.icmp.reject(w.e, b.Bytes(), &h)
		w.drop(b, d.why, nil)
	default:
		w.drop(b, d.why, nil)
	}
}

func (w *outWorker) count(r *eroute.Entry) {
	r.Packets.Add(1)
	r.LastUse.Store(w.now)
}

// protect sends a packet through the group that sa begins, which choose has returned for
// eroute r. If the result matches an eroute to another gateway, it goes through a group of
// that eroute, too.
func (w *outWorker) protect(b *packet.Buffer, h *packet.Header, r *eroute.Entry, sa *sadb.SA) {
	var last *sadb.SA
	for range maxNesting {
		if sa == nil {
			w.drop(b, drop.NoSA, nil)
			return
		}
		if last != nil {
			w.sameLane(last, sa)
		}
		last = sa
		chain := sa.Chain()
		if w.tracing {
			w.grouped(chain)
		}
		if w.cut && cutAgain(h, chain) {
			w.inPieces(b, h, r, sa)
			return
		}
		toPeer(b, h, chain)
		if h.Proto == packet.ProtoTCP && !h.Frag && w.e.knobs.mss.on() {
			w.clampOut(b, h, chain)
		}
		if !w.usable(b, chain) || !w.fits(b, h, chain) || !w.apply(b, h, chain) {
			return
		}
		sel := selector(b.Bytes(), h)
		next := w.routes.Lookup(&sel)
		if w.tracing {
			w.searched(&sel, next)
		}
		if next != nil {
			w.count(next)
		}
		// Shunts never apply to protected packets.
		if next == nil || next.ID.Dst.IsUnspecified() || next.ID.Dst == r.ID.Dst {
			w.wrap(b, h, chain)
			return
		}
		w.lay.finish()
		r, sa = next, w.e.choose(next, h, &sel)
	}
	w.error(b, drop.Nesting, last)
}

// usable checks every SA of a group before the first transform.
func (w *outWorker) usable(b *packet.Buffer, group []*sadb.SA) bool {
	sa, why, soft := refusal(group, w.now)
	switch why {
	case drop.None:
		if soft {
			w.soften(group)
		}
		return true
	case drop.Expired, drop.NoNumbers:
		w.e.expire(sa)
	case drop.NotReserved:
		w.e.keeper.wake()
		sa.SeqWaits.Add(1)
	}
	w.error(b, why, sa)
	return false
}

// soften reports the SAs of a group whose soft limits have passed.
func (w *outWorker) soften(group []*sadb.SA) {
	for _, sa := range group {
		if _, soft, _ := sa.Expired(w.now); soft {
			w.e.soften(sa)
		}
	}
}

// apply transforms the packet by every SA of the group in order. h is its header; apply
// changes it to that of the result.
func (w *outWorker) apply(b *packet.Buffer, h *packet.Header, chain []*sadb.SA) bool {
	for _, sa := range chain {
		err := w.transform(b, h, sa)
		if w.tracing {
			w.e.trace.transformed("out", sa, sa.Seq.Load(), err)
		}
		if err != nil {
			w.error(b, whyNot(sa, err), sa)
			return false
		}
	}
	return true
}

// errSeq: a packet cannot be sealed. The caller counts the packet and drops it.
var errSeq = errors.New("there is no sequence number for it")

// whyNot returns why transform has failed. Another worker may have taken the last
// sequence number since this one has checked.
func whyNot(sa *sadb.SA, err error) drop.Reason {
	switch {
	case !errors.Is(err, errSeq):
		return drop.Failed
	case sa.Exhausted():
		return drop.NoNumbers
	}
	return drop.NotReserved
}

// transform applies one SA to the packet with header h. h becomes the header of the
// result.
func (w *outWorker) transform(b *packet.Buffer, h *packet.Header, sa *sadb.SA) error {
	w.lay.before(sa, b)
	count := h.Total - h.Len
	switch sa.ID.Proto {
	case klips.ProtoTun:
		tos := h.TOS
		if !sa.CopyTOS && w.e.knobs.hideTOS.on() {
			tos = 0
		}
		ttl := w.att.ttl4
		if sa.ID.Dst.Is6() {
			ttl = w.att.ttl6
		}
		if err := ipip.Encap(b, h, sa.Src, sa.ID.Dst, tos, ttl, w.e.nextID()); err != nil {
			return err
		}
		count = b.Len()
	case klips.ProtoESP, klips.ProtoAH:
		if err := w.seal(b, h, sa); err != nil {
			return err
		}
	case klips.ProtoComp:
		st, err := stateOf(sa, w.id)
		if err != nil {
			return err
		}
		count = h.Total
		st.compr.Compress(b, h, uint16(sa.ID.SPI))
		sa.Uncompressed.Add(uint64(count))
		sa.Compressed.Add(uint64(b.Len()))
	}
	sa.Count(uint64(count), w.now)
	return nil
}

// seal makes an ESP or AH packet with the SA's next sequence number. The packet may be
// unfinished until the next flush.
func (w *outWorker) seal(b *packet.Buffer, h *packet.Header, sa *sadb.SA) error {
	st, err := stateOf(sa, w.id)
	if err != nil {
		return err
	}
	seq, ok := sa.NextSeq()
	if !ok {
		return errSeq
	}
	if sa.IsLow(seq) {
		w.e.keeper.wake()
	}
	if sa.ID.Proto == klips.ProtoESP {
		return st.espOut.Lay(w.lay.esp, b, h, seq)
	}
	return w.lay.layAH(st.ahOut, b, h, seq)
}

// wrap encapsulates a complete packet in UDP if an ESP SA of the group needs that, and
// sends it.
func (w *outWorker) wrap(b *packet.Buffer, h *packet.Header, chain []*sadb.SA) {
	for _, sa := range chain {
		if sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != klips.NATTNone {
			w.lay.beforeUDP(b, h)
			if udpencap.Encap(b, h, sa.NATT) != nil {
				w.error(b, drop.TooBig, sa)
				return
			}
			sa.Data.(*states).follow(w.d, h.Src)
			break
		}
	}
	w.send(b, h, h.Version == 4 && h.DF, chain[len(chain)-1], "")
}

// Reasons why a packet is sent in clear, for the debug log.
const (
	ownTraffic = "the host's own ESP, AH or IKE"
	passed     = "eroute to %pass"
)

// sending writes into the debug log that a packet of n bytes is sent.
func (w *outWorker) sending(n int, clear string) {
	if !w.tracing {
		return
	}
	what := "sent protected"
	if clear != "" {
		what = "sent in clear"
	}
	w.outcome(what, clear, slog.Int("length", n))
}

// send queues a complete packet. It sends the packet in pieces if it is longer than the
// path MTU. If df is set, send reports a packet that is too long to its sender instead;
// that concerns packets in clear and in transport mode. sa is the outermost SA of the
// packet, nil for a packet in clear. clear is the reason to send it in clear, otherwise
// "".
func (w *outWorker) send(b *packet.Buffer, h *packet.Header, df bool, sa *sadb.SA, clear string) {
	p := b.Bytes()
	b.Sealed = sa != nil
	mtu := w.att.wire.MTU()
	if sa != nil {
		mtu = limitBy(sa, w.att.wire, w.now)
	}
	w.d.stats.txBytes.Add(uint64(len(p)))
	if len(p) <= mtu {
		w.sending(len(p), clear)
		w.ready = append(w.ready, b)
		if len(w.ready) == cap(w.ready) {
			w.flush()
		}
		return
	}
	if df {
		w.lay.finish() // the message quotes the packet
		w.icmp.tooBig(w.e, p, h, mtu)
		w.error(b, drop.TooBig, sa)
		return
	}
	w.sending(len(p), clear)
	w.flush()
	w.failed = 0
	// The pieces are made in place, one after the other.
	fragment(b, h, mtu, uint32(w.e.ipID.Add(1)), func(f *packet.Buffer) {
		w.ready = append(w.ready, f)
		w.transmit()
	})
	if w.failed > 0 { // without one piece the others are useless
		w.d.stats.drop(drop.NotSent, sa, &w.d.stats.txErrors)
		w.note(b, drop.NotSent, sa)
		return
	}
	w.d.stats.txPackets.Add(1)
}

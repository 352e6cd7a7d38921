package engine

import (
	"errors"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// maxLayers is the largest number of headers that are removed from one packet.
const maxLayers = 16

// An inWorker handles the ESP and AH packets that arrive, or those of one lane of them. One
// goroutine at a time owns all its fields. Its own ends when the receiver closes.
type inWorker struct {
	e      *Engine
	lane   int
	others lanes // nil: all packets are in lane 0, or this is a helper
	parcel       // the current packets
	now    int64
	// pending are the packets to write to each device with one Write.
	pending [klips.MaxDevices][]*packet.Buffer
	to      *device                     // the device of the current Write
	refused int                         // packets that it has refused
	refuse  func(*packet.Buffer, error) // counts them
	bytes   [klips.MaxDevices]uint64    // what to add to rx_bytes for pending
	touched []*device
	inflate *ipcomp.Decompressor
	ahead   foresight
	tracing bool // the debug log needs lines about packets
	handled struct{ batches, packets atomic.Uint64 }
}

// newInWorker makes a worker whose packets are in p, or come in other parcels.
func newInWorker(e *Engine, lane int, p parcel) *inWorker {
	w := &inWorker{
		e:       e,
		lane:    lane,
		parcel:  p,
		touched: make([]*device, 0, klips.MaxDevices),
		inflate: ipcomp.NewDecompressor(),
	}
	w.refuse = func(b *packet.Buffer, _ error) {
		w.refused++
		w.note(drop.NotDelivered, w.to, b, nil)
	}
	return w
}

func (w *inWorker) run() {
	defer close(w.e.inDone)
	w.others = newLanes(w.e.lanes-1, func(lane int) helper { return newInWorker(w.e, lane, parcel{}) })
	defer w.others.end()
	for {
		n, err := w.e.receiver.Recv(w.bufs, w.ifindex)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		w.batch(n)
		if inStep {
			w.others.wait()
		}
		w.lend()
	}
}

func (w *inWorker) handle(p parcel) {
	w.parcel = p
	w.batch(p.n)
}

// batch handles n packets.
func (w *inWorker) batch(n int) {
	if n == 0 {
		return
	}
	w.handled.batches.Add(1)
	w.handled.packets.Add(uint64(n))
	w.now = w.e.now()
	w.tracing = w.e.trace.any.Load()
	if w.lane == 0 {
		w.check = w.e.knobs.checkIn.on()
	}
	if w.others != nil {
		n = w.share(n)
	}
	devs := *w.e.attached.Load()
	for i := range n {
		var next *packet.Buffer
		if i+1 < n {
			next = w.bufs[i+1]
		}
		w.ahead.turn(w.bufs[i], next)
		if isICMP(w.bufs[i].Bytes()) && w.e.hear(w.bufs[i].Bytes(), w.now) {
			continue
		}
		w.packet(w.bufs[i], arrival(devs, w.ifindex[i]))
	}
	w.ahead.forget()
	w.flush()
}

// arrival returns the ipsecN with the lowest number whose physical device has index
// ifindex.
func arrival(devs []*device, ifindex int) *device {
	for _, d := range devs {
		if a := d.att.Load(); a != nil && a.wire.Index() == ifindex {
			return d
		}
	}
	return nil
}

// packet removes the headers of one packet, counts it, and delivers the inner packet. The
// packet arrived on the physical device of d; nil: on another device.
func (w *inWorker) packet(b *packet.Buffer, d *device) {
	c := inPacket{b: b, check: w.check}
	s := &w.e.nobody
	if d != nil {
		s = &d.stats
	}
	v := w.takeOff(&c)
	if v.as != ignored {
		s.rxPackets.Add(1)
	}
	if w.tracing {
		w.outcome(&c, v)
	}
	switch {
	case v.do != deliver:
		w.count(v, s)
		sa := v.sa
		if sa == nil {
			sa = c.last
		}
		w.note(v.why, d, b, sa)
	case d == nil:
		s.drop(drop.Detached, nil, nil)
		w.note(drop.Detached, nil, b, c.last)
	default:
		w.deliver(d, &c)
	}
}

// note records a packet as dropped, with the headers that are left.
func (w *inWorker) note(why drop.Reason, d *device, b *packet.Buffer, sa *sadb.SA) {
	w.e.lastDrops.note(why, w.now, d, true, b.Bytes(), sa)
}

// count counts a packet that is refused.
func (w *inWorker) count(v verdict, s *stats) {
	var klips *atomic.Uint64
	switch v.as {
	case dropped:
		klips = &s.rxDropped
	case failed:
		klips = &s.rxErrors
	}
	if v.why == drop.NotESP {
		s = &w.e.nobody // the counters without a device
	}
	s.drop(v.why, v.sa, klips)
}

// takeOff removes all headers of a packet, and returns the last verdict about it.
func (w *inWorker) takeOff(c *inPacket) verdict {
	var ok bool
	if c.h, ok = packet.ParseIP(c.b.Bytes()); !ok {
		return stop(nil, drop.BadPacket, failed)
	}
	c.b.End = c.b.Off + c.h.Total
	if c.h.Proto == packet.ProtoUDP {
		o, err := udpencap.Decap(c.b, &c.h)
		c.natt, c.port, c.toPort = o.Type, o.SPort, o.DPort
		if err != nil {
			return stop(nil, drop.NotESP, ignored)
		}
	}
	for range maxLayers {
		var l layer
		v := w.act(c, &l, w.e.judge(c, &l, w.now))
		if v.do != again {
			return v
		}
		c.b.End = c.b.Off + c.h.Total
	}
	return stop(c.last, drop.Nesting, dropped)
}

// act carries out the verdict about the outermost layer, and returns the next verdict.
func (w *inWorker) act(c *inPacket, l *layer, v verdict) verdict {
	for _, sa := range l.skipped {
		sa.Uncompressed.Add(uint64(c.h.Total))
		sa.Compressed.Add(uint64(c.h.Total))
	}
	switch v.do {
	case unseal:
		return w.unseal(c, l, v.sa)
	case unwrap:
		return w.unwrap(c, l, v.sa)
	case finish:
		if c.natt != klips.NATTNone && c.h.Proto != packet.ProtoIPIP && c.h.Proto != packet.ProtoIPv6 {
			udpencap.Mend(c.b, &c.h, c.last.NATT.OA)
		}
		c.transported = true
		return w.e.judgeTransported(c)
	case refuse:
		if v.why == drop.Expired {
			w.e.expire(v.sa)
		}
	}
	return v
}

// outcome writes into the debug log what happens to a packet, and why.
func (w *inWorker) outcome(c *inPacket, v verdict) {
	t := &w.e.trace
	if !t.on(klips.DebugRcv, allBits) {
		return
	}
	attrs := []slog.Attr{flow(&c.h)}
	sa := v.sa
	if sa == nil {
		sa = c.last
	}
	if sa != nil {
		attrs = append(attrs, slog.String("said", sa.ID.String()))
	}
	what := "delivered"
	if v.do != deliver {
		what = "dropped"
		attrs = append(attrs, slog.String("why", v.why.String()))
	}
	t.line("rcv", what, attrs...)
}

// unseal removes an ESP, AH or IPComp header.
func (w *inWorker) unseal(c *inPacket, l *layer, sa *sadb.SA) verdict {
	if l.soft {
		w.e.soften(sa)
	}
	before := c.h.Total
	v := w.open(c, l, sa)
	if w.tracing {
		w.opened(l, sa, v)
	}
	if v.do != again {
		return v
	}
	h, ok := packet.ParseIP(c.b.Bytes())
	if !ok {
		return stop(sa, drop.BadPacket, failed)
	}
	c.begun, c.last, c.chain, c.whole = true, sa, l.rest, l.whole
	v = judgeFollower(c, sa, &h)
	if v.do != again && v.why != drop.Dummy { // a dummy packet counts as a packet of its SA
		return v
	}
	if sa.ID.Proto == klips.ProtoComp {
		sa.Uncompressed.Add(uint64(h.Total))
		sa.Compressed.Add(uint64(before))
	}
	sa.Count(uint64(h.Total-h.Len), w.now)
	c.h = h
	return v
}

// opened writes the result for one layer into the debug log.
func (w *inWorker) opened(l *layer, sa *sadb.SA, v verdict) {
	var err error
	if v.do != again {
		err = errors.New(v.why.String())
	}
	w.e.trace.transformed("in", sa, uint64(l.seq), err)
}

// open checks the replay window and the ICV, then decrypts. It reads nothing inside
// before the ICV is checked.
func (w *inWorker) open(c *inPacket, l *layer, sa *sadb.SA) verdict {
	if sa.ID.Proto == klips.ProtoComp {
		if w.inflate.Decompress(c.b, &c.h, uint16(sa.ID.SPI), packet.MaxSize) != nil {
			return stop(sa, drop.BadPacket, failed)
		}
		return verdict{do: again}
	}
	if !w.owns(sa) {
		return stop(sa, drop.WrongOrder, dropped)
	}
	st, err := stateOf(sa, receives(w.lane))
	if err != nil {
		return stop(sa, drop.Failed, failed)
	}
	if l.unwanted && !st.espIn.Authenticated() {
		return stop(sa, drop.WrongSource, dropped)
	}
	window := sa.Replay.Size() > 0 && (sa.ID.Proto == klips.ProtoAH || st.espIn.Authenticated())
	seq := uint64(l.seq)
	if sa.ESN {
		seq = sa.Replay.Extend(l.seq)
	}
	if window && !sa.Replay.Check(seq) {
		sa.ReplayErrs.Add(1)
		why := notNew(sa, seq)
		if why == drop.BelowMark {
			w.belowMark(sa)
		}
		return stop(sa, why, dropped)
	}
	switch {
	case sa.ID.Proto == klips.ProtoESP && st.espIn.Foresees():
		err = st.espIn.VerifyAhead(c.b, &c.h, seq, &w.ahead.esp, w.ahead.nextESP(c, sa))
	case sa.ID.Proto == klips.ProtoESP:
		err = st.espIn.Verify(c.b, &c.h, seq)
	case st.ahIn.Foresees():
		next, h := w.ahead.nextAH(c, sa)
		err = st.ahIn.VerifyAhead(c.b, &c.h, seq, &w.ahead.ah, next, h)
	default:
		err = st.ahIn.Verify(c.b, &c.h, seq)
	}
	switch {
	case errors.Is(err, esp.ErrAuth), errors.Is(err, ah.ErrAuth):
		sa.AuthErrs.Add(1)
		if sa.ESN && sa.Remembered != 0 && sa.Replay.Last() == sa.Remembered {
			w.belowMark(sa) // Extend takes a low number as one of the next 2³²
			return stop(sa, drop.BelowMark, dropped)
		}
		return stop(sa, drop.BadICV, dropped)
	case err != nil:
		return bad(sa, err)
	}
	if window && !sa.Replay.Update(seq) {
		sa.ReplayErrs.Add(1)
		return stop(sa, notNew(sa, seq), dropped)
	}
	if l.inUDP && st.espIn.Authenticated() {
		w.follow(c, l, sa, &st.mapping)
	}
	if l.unwanted {
		return stop(sa, drop.WrongSource, dropped) // only an UPDATE changes the SA's source
	}
	padBad := false
	if sa.ID.Proto == klips.ProtoAH {
		err = st.ahIn.Open(c.b, &c.h)
	} else {
		padBad, err = st.espIn.Open(c.b, &c.h)
	}
	if padBad {
		sa.PadErrs.Add(1)
	}
	if err != nil {
		return bad(sa, err)
	}
	return verdict{do: again}
}

// belowMark counts a packet that is refused because an earlier SA with the same key has
// received its number or a higher one. The first such packet of an SA calls the event.
func (w *inWorker) belowMark(sa *sadb.SA) {
	if sa.BelowMark.Add(1) == 1 {
		(*w.e.events.Load()).BelowMark(sa.ID, sa.Remembered)
	}
}

// unwrap removes the header of a tunnel.
func (w *inWorker) unwrap(c *inPacket, l *layer, sa *sadb.SA) verdict {
	sa.Count(uint64(c.h.Total-c.h.Len), w.now)
	switch ipip.Decap(c.b, &c.h) {
	case nil:
	case ipip.ErrCE:
		return stop(sa, drop.Congestion, dropped)
	default:
		return stop(c.last, drop.BadPacket, failed)
	}
	h, ok := packet.ParseIP(c.b.Bytes())
	if !ok {
		return stop(c.last, drop.BadPacket, failed)
	}
	c.h, c.chain = h, l.rest
	c.b.End = c.b.Off + h.Total
	c.natt = klips.NATTNone // the inner packet did not come through the NAT
	return w.e.judgeInner(c, sa)
}

package engine

import (
	"errors"
	"log/slog"
	"os"
	"slices"

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

// maxLayers is how many headers are taken off one packet at most.
const maxLayers = 16

// An inWorker takes all ESP and AH packets that arrive. All of it belongs to
// one goroutine, which ends when the receiver closes.
type inWorker struct {
	e       *Engine
	bufs    []*packet.Buffer
	ifindex []int
	now     int64
	// pending are the packets that came out, device by device, for one Write.
	pending [klips.MaxDevices][][]byte
	bytes   [klips.MaxDevices]uint64 // that rx_bytes will count for pending
	touched []*device
	inflate *ipcomp.Decompressor
	tracing bool // the debug log wants lines about packets
}

func newInWorker(e *Engine) *inWorker {
	w := &inWorker{
		e:       e,
		bufs:    make([]*packet.Buffer, batchSize),
		ifindex: make([]int, batchSize),
		touched: make([]*device, 0, klips.MaxDevices),
		inflate: ipcomp.NewDecompressor(),
	}
	for i := range w.bufs {
		w.bufs[i] = &packet.Buffer{B: make([]byte, bufferSize)}
	}
	return w
}

func (w *inWorker) run() {
	defer close(w.e.inDone)
	for {
		n, err := w.e.receiver.Recv(w.bufs, w.ifindex)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		w.batch(n)
	}
}

// batch handles the n packets that were received.
func (w *inWorker) batch(n int) {
	w.now = w.e.now()
	w.tracing = w.e.trace.any.Load()
	devs := *w.e.attached.Load()
	for i := range n {
		d := arrival(devs, w.ifindex[i])
		s := &w.e.nobody
		if d != nil {
			s = &d.stats
		}
		b := w.bufs[i]
		switch n, delivered := w.packet(b, s); {
		case !delivered:
		case d == nil:
			s.drop(drop.Detached, nil, nil)
		default:
			w.deliver(d, b, n)
		}
	}
	w.flush()
}

// arrival finds the ipsecN, lowest number first, whose physical device a packet
// came in by.
func arrival(devs []*device, ifindex int) *device {
	for _, d := range devs {
		if a := d.att.Load(); a != nil && a.wire.Index() == ifindex {
			return d
		}
	}
	return nil
}

// A verdict is what becomes of a packet, and where KLIPS counts it if it goes no
// further. [inPacket.because] notes why.
type verdict uint8

const (
	deliver  verdict = iota
	again            // the layer is off, look at the next one
	dropped          // rx_dropped
	failed           // rx_errors
	vanished         // rx_packets alone
	ignored          // nowhere, not even in rx_packets: it may be for others
)

// because is the verdict about a packet that goes no further, for the sake of the SA
// whose layer it has come to, if there is one.
func (c *inPacket) because(why drop.Reason, v verdict) verdict {
	return c.refusedBy(c.last, why, v)
}

// refusedBy is because for the sake of another SA.
func (c *inPacket) refusedBy(sa *sadb.SA, why drop.Reason, v verdict) verdict {
	c.why, c.by = why, sa
	return v
}

// bad is the verdict about a packet that a layer refused. The stack counts what
// KLIPS counts: an ESP packet that is too short for its ICV is dropped, one whose
// pad length says more than there is vanishes, all else is an error.
func (c *inPacket) bad(err error) verdict {
	switch {
	case errors.Is(err, esp.ErrRunt):
		return c.because(drop.BadPacket, dropped)
	case errors.Is(err, esp.ErrPadding):
		return c.because(drop.BadPadding, vanished)
	}
	return c.because(drop.BadPacket, failed)
}

// packet takes the layers off one packet, counts it in s, and reports whether what is
// left is to be delivered, and how many bytes that has behind its IP header.
func (w *inWorker) packet(b *packet.Buffer, s *stats) (n int, delivered bool) {
	c := inPacket{b: b, check: w.e.knobs.checkIn.on()}
	v := again
	var ok bool
	if c.h, ok = packet.ParseIP(b.Bytes()); !ok {
		v = c.because(drop.BadPacket, failed)
	}
	for i := 0; v == again && i < maxLayers; i++ {
		v = w.layer(&c)
	}
	if v == again { // too many layers
		v = c.because(drop.Nesting, dropped)
	}
	if v != ignored {
		s.rxPackets.Add(1)
	}
	switch v {
	case dropped:
		s.drop(c.why, c.by, &s.rxDropped)
	case failed:
		s.drop(c.why, c.by, &s.rxErrors)
	case vanished:
		s.drop(c.why, c.by, nil)
	case ignored:
		if c.why == drop.NotESP {
			s = &w.e.nobody // whichever device it came by
		}
		s.drop(c.why, c.by, nil)
	}
	if w.tracing {
		w.outcome(&c, v)
	}
	return c.h.Total - c.h.Len, v == deliver
}

// outcome writes into the debug log what becomes of a packet.
func (w *inWorker) outcome(c *inPacket, v verdict) {
	t := &w.e.trace
	if !t.on(klips.DebugRcv, allBits) {
		return
	}
	attrs := []slog.Attr{flow(&c.h)}
	if c.last != nil {
		attrs = append(attrs, slog.String("said", c.last.ID.String()))
	}
	what := "delivered"
	if v != deliver {
		what = "dropped"
		attrs = append(attrs, slog.String("why", c.why.String()))
	}
	t.line("rcv", what, attrs...)
}

// An inPacket is a packet on its way in and the part of its group that has not
// been seen yet.
type inPacket struct {
	b     *packet.Buffer
	h     packet.Header // of the layer in front
	chain []*sadb.SA    // SAs that are still to come, outermost first
	whole []*sadb.SA    // of which chain is the rest
	begun bool          // a first SA was found; chain counts
	check bool          // inbound_policy_check
	natt  klips.NATTType
	// Ports of the UDP header that was taken off.
	port, toPort uint16
	last         *sadb.SA // the SA of the layer taken off last, or of the one in front

	// Of a packet that goes no further:
	why drop.Reason
	by  *sadb.SA // whose way it ends; nil: no SA's

	// Of the layer in front:
	first   bool // it is the outermost
	moved   bool // it comes from elsewhere in UDP
	refused bool // for that it is dropped, once it has been authenticated
}

// layer takes one layer off.
func (w *inWorker) layer(c *inPacket) verdict {
	c.b.End = c.b.Off + c.h.Total
	if !c.begun && c.h.Proto == packet.ProtoUDP {
		o, err := udpencap.Decap(c.b, &c.h)
		c.natt, c.port, c.toPort = o.Type, o.SPort, o.DPort
		if err != nil {
			return c.because(drop.NotESP, ignored)
		}
	}
	switch c.h.Proto {
	case packet.ProtoESP, packet.ProtoAH, packet.ProtoComp:
		return w.secured(c)
	}
	return w.revealed(c)
}

// skipComp steps over comp SAs whose headers are not there: their packet was sent
// uncompressed (RFC 3173 section 2.2).
func (c *inPacket) skipComp() {
	for len(c.chain) > 0 && c.chain[0].ID.Proto == klips.ProtoComp && c.h.Proto != packet.ProtoComp {
		c.chain[0].Uncompressed.Add(uint64(c.h.Total))
		c.chain[0].Compressed.Add(uint64(c.h.Total))
		c.chain = c.chain[1:]
	}
}

// find returns the SA of the layer in front, which must be the next of the
// group, and leaves in c.chain those after it.
func (w *inWorker) find(c *inPacket, id klips.SAID) *sadb.SA {
	if c.begun && c.check {
		c.skipComp()
		if len(c.chain) == 0 || c.chain[0].ID != id {
			return nil
		}
		sa := c.chain[0]
		c.chain = c.chain[1:]
		return sa
	}
	sa := w.e.sas.Lookup(id)
	if sa == nil {
		return nil
	}
	chain, head := sa.Snapshot()
	if c.check && !head {
		return nil // a layer of its group is missing around it
	}
	c.begun = true
	c.whole, c.chain = chain, chain[1:]
	return sa
}

// minAHLength is the length field of the shortest AH header, with an ICV of 12
// bytes (RFC 4302 section 2.2).
const minAHLength = 4

// secured takes off an ESP, AH or IPComp header.
func (w *inWorker) secured(c *inPacket) verdict {
	id := klips.SAID{Dst: c.h.Dst, Proto: klips.Proto(c.h.Proto)}
	var spi, seq uint32
	var err error
	switch id.Proto {
	case klips.ProtoESP:
		spi, seq, err = esp.ParseHeader(c.b, &c.h)
	case klips.ProtoAH:
		spi, seq, err = ah.ParseHeader(c.b, &c.h)
		if err == nil && c.b.Bytes()[c.h.Len+1] < minAHLength {
			return c.because(drop.BadPacket, failed)
		}
	default:
		if !c.begun {
			return c.because(drop.WrongOrder, dropped) // never outermost
		}
		var cpi uint16
		_, _, cpi, err = ipcomp.ParseHeader(c.b, &c.h)
		spi = uint32(cpi)
	}
	if err != nil {
		return c.bad(err)
	}
	id.SPI = klips.SPI(spi)
	c.first = !c.begun
	sa := w.find(c, id)
	if sa == nil {
		why, v := drop.WrongOrder, dropped
		if w.e.sas.Lookup(id) == nil {
			why = drop.NoSA
		}
		if c.natt != klips.NATTNone && c.first {
			v = ignored
			if c.toPort == ikePort {
				why = drop.NotESP // IKE looks the same there
			}
		}
		return c.because(why, v)
	}
	c.last = sa
	if st := sa.State(); st != klips.Mature && st != klips.Dying {
		return c.because(drop.NotUsable, dropped)
	}
	var elsewhere bool
	elsewhere, c.moved = c.locate(sa)
	c.refused = c.check && elsewhere
	if c.refused && !c.moved {
		return c.because(drop.WrongSource, dropped)
	}
	if c.check && c.first && sa.ID.Proto == klips.ProtoESP && sa.NATT.Type != c.natt {
		return c.because(drop.WrongUDP, dropped)
	}
	hard, soft, _ := sa.Expired(w.now)
	if hard {
		w.e.expire(sa)
		return c.because(drop.Expired, dropped)
	}
	if soft {
		w.e.soften(sa)
	}
	before := c.h.Total
	v := w.open(c, sa, seq)
	if w.tracing {
		w.opened(c, sa, seq, v)
	}
	if v != again {
		return v
	}
	h, ok := packet.ParseIP(c.b.Bytes())
	if !ok {
		return c.because(drop.BadPacket, failed)
	}
	if c.check && len(c.chain) > 0 && !mayFollow(h.Proto, c.chain) {
		why := drop.WrongOrder
		if hasTunnel(c.chain) {
			why = drop.NoTunnel
		}
		return c.because(why, dropped) // incomplete policy
	}
	if sa.ID.Proto == klips.ProtoComp {
		sa.Uncompressed.Add(uint64(h.Total))
		sa.Compressed.Add(uint64(before))
	}
	sa.Count(uint64(h.Total-h.Len), w.now)
	c.h = h
	return again
}

// opened writes into the debug log what became of one layer.
func (w *inWorker) opened(c *inPacket, sa *sadb.SA, seq uint32, v verdict) {
	var err error
	if v != again {
		err = errors.New(c.why.String())
	}
	if sa.ID.Proto == klips.ProtoComp {
		seq = 0
	}
	w.e.trace.transformed("in", sa, uint64(seq), err)
}

// mayFollow reports whether a header of protocol p can be what the rest of the
// group takes off. Comp SAs at the end may have nothing to do.
func mayFollow(p uint8, chain []*sadb.SA) bool {
	switch p {
	case packet.ProtoESP, packet.ProtoAH, packet.ProtoComp, packet.ProtoIPIP, packet.ProtoIPv6:
		return true
	}
	return !slices.ContainsFunc(chain, func(sa *sadb.SA) bool { return sa.ID.Proto != klips.ProtoComp })
}

// open checks replay window and ICV, then decrypts: nothing is looked at that
// has not been authenticated.
func (w *inWorker) open(c *inPacket, sa *sadb.SA, low uint32) verdict {
	if sa.ID.Proto == klips.ProtoComp {
		if w.inflate.Decompress(c.b, &c.h, uint16(sa.ID.SPI), klips.DeviceMTU) != nil {
			return c.because(drop.BadPacket, failed)
		}
		return again
	}
	st, err := stateOf(sa, inboundWorker)
	if err != nil {
		return c.because(drop.Failed, failed)
	}
	if c.refused && !st.espIn.Authenticated() {
		return c.because(drop.WrongSource, dropped)
	}
	window := sa.Replay.Size() > 0 && (sa.ID.Proto == klips.ProtoAH || st.espIn.Authenticated())
	seq := uint64(low)
	if sa.ESN {
		seq = sa.Replay.Extend(low)
	}
	if window && !sa.Replay.Check(seq) {
		sa.ReplayErrs.Add(1)
		why := notNew(sa, seq)
		if why == drop.BelowMark {
			w.belowMark(sa)
		}
		return c.because(why, dropped)
	}
	if sa.ID.Proto == klips.ProtoAH {
		err = st.ahIn.Verify(c.b, &c.h, seq)
	} else {
		err = st.espIn.Verify(c.b, &c.h, seq)
	}
	switch {
	case errors.Is(err, esp.ErrAuth), errors.Is(err, ah.ErrAuth):
		sa.AuthErrs.Add(1)
		if sa.ESN && sa.Remembered != 0 && sa.Replay.Last() == sa.Remembered {
			w.belowMark(sa) // a low number is taken for one of the next 2³²
			return c.because(drop.BelowMark, dropped)
		}
		return c.because(drop.BadICV, dropped)
	case err != nil:
		return c.bad(err)
	}
	if window && !sa.Replay.Update(seq) {
		sa.ReplayErrs.Add(1)
		return c.because(notNew(sa, seq), dropped)
	}
	if c.inUDP(sa) && st.espIn.Authenticated() {
		w.follow(c, sa, &st.mapping)
	}
	if c.refused {
		return c.because(drop.WrongSource, dropped) // only an UPDATE lets it in
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
		return c.bad(err)
	}
	return again
}

// notNew is why the window of an SA does not take a number.
func notNew(sa *sadb.SA, seq uint64) drop.Reason {
	switch {
	case sa.Remembered != 0 && seq <= sa.Remembered:
		return drop.BelowMark
	case sa.Replay.TooOld(seq):
		return drop.TooOld
	}
	return drop.Replayed
}

// belowMark counts a packet that is refused since an earlier SA with this key has
// received so far. The first time, it is told.
func (w *inWorker) belowMark(sa *sadb.SA) {
	if sa.BelowMark.Add(1) == 1 {
		(*w.e.events.Load()).BelowMark(sa.ID, sa.Remembered)
	}
}

// revealed handles what is behind the last ESP, AH or IPComp header: the tunnel
// header that the group's tun SA demands, or the packet itself.
func (w *inWorker) revealed(c *inPacket) verdict {
	if !c.begun {
		return c.because(drop.WrongOrder, dropped)
	}
	c.skipComp()
	if len(c.chain) == 0 {
		if c.natt != klips.NATTNone && c.h.Proto != packet.ProtoIPIP && c.h.Proto != packet.ProtoIPv6 {
			udpencap.Mend(c.b, &c.h, c.last.NATT.OA)
		}
		return w.transported(c)
	}
	sa := c.chain[0]
	if sa.ID.Proto != klips.ProtoTun {
		if c.check {
			return c.because(drop.WrongOrder, dropped) // a layer is missing
		}
		return deliver
	}
	if c.h.Proto != packet.ProtoIPIP && c.h.Proto != packet.ProtoIPv6 {
		return c.refusedBy(sa, drop.NoTunnel, dropped)
	}
	if c.check && (c.h.Dst != sa.ID.Dst || sa.Src.IsValid() && !sa.Src.IsUnspecified() && sa.Src != c.h.Src) {
		return c.refusedBy(sa, drop.NoTunnel, dropped)
	}
	sa.Count(uint64(c.h.Total-c.h.Len), w.now)
	if ipip.Decap(c.b, &c.h) != nil {
		return c.because(drop.BadPacket, vanished)
	}
	h, ok := packet.ParseIP(c.b.Bytes())
	if !ok {
		return c.because(drop.BadPacket, vanished)
	}
	c.natt = klips.NATTNone // what is inside did not come through the NAT
	if c.check && w.unknown(sa) {
		return c.refusedBy(sa, drop.NoPolicy, dropped)
	}
	if c.check && !admits(sa, c.b.Bytes(), &h) {
		return c.refusedBy(sa, drop.Policy, dropped)
	}
	c.chain = c.chain[1:]
	c.h = h
	if len(c.chain) == 0 {
		c.b.End = c.b.Off + h.Total
		return w.admitted(c)
	}
	// Two bundles joined: the tunnel carries the packets of another one.
	return again
}

// transported decides about a packet that has come out of a group whose innermost
// SA is in transport mode.
func (w *inWorker) transported(c *inPacket) verdict {
	if sa := c.whole[len(c.whole)-1]; c.check && w.unknown(sa) {
		return c.refusedBy(sa, drop.NoPolicy, dropped)
	}
	return w.admitted(c)
}

// admitted decides about a packet from which the whole group has been taken off. All
// SAs in transport mode must admit it, also those that were grouped with others
// after their policy was set; tun SAs have been asked about what they carried.
func (w *inWorker) admitted(c *inPacket) verdict {
	if !c.check {
		return deliver
	}
	for _, sa := range c.whole {
		if sa.ID.Proto != klips.ProtoTun && !admits(sa, c.b.Bytes(), &c.h) {
			return c.refusedBy(sa, drop.Policy, dropped)
		}
	}
	return deliver
}

// unknown reports whether an SA that needs an inbound policy has none.
func (w *inWorker) unknown(sa *sadb.SA) bool {
	return sa.Policy() == nil && w.e.knobs.needPolicy.on()
}

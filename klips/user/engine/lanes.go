package engine

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// A machine with more than three processors can encrypt for several SAs at the same time.
// The worker that reads packets then has helpers. It gives each packet to the one whose
// lane the SA of the packet is in, and has lane 0 itself.
//
// All packets of an SA are in one lane. So an SA's packets keep their order, its sequence
// numbers leave in order, and its replay window has one writer. SAs get their lanes in
// turn, the first one lane 0: packets change their goroutine only if there are several SAs.
//
// Reading is a small part of the work, because the kernel gives many packets of one flow at
// a time. So the device needs no queue for each lane (IFF_MULTI_QUEUE), whose number would
// have to be known when it is made, and which would bring packets of one SA to several
// workers. For the same reason there is one receiver: one message of UDP_GRO can have
// packets of several SAs.
//
// The packets of one SA are not encrypted by several workers, after one of them has given the
// sequence numbers. Two processors that shared each batch took 0.8 to 0.95 times as long with
// AES-CBC and HMAC, but 1.2 to 1.3 times with AES-GCM, while the helper polled without a pause;
// a helper that slept between batches was late for most of them. And a stream gains only if its
// receiver shares the work too: to open a packet takes as long as to seal it.

// MaxLanes is the largest number of lanes.
const MaxLanes = 8

// LanesFor returns how many lanes an engine should have on a machine with so many
// processors, of which both directions and other programs need some, if it may use so many
// bytes of memory; 0: any number.
func LanesFor(processors int, memory uint64) int {
	n := min(max(processors/2, 1), MaxLanes)
	for n > 1 && memory != 0 && BaseMemory(n) > memory/4 {
		n--
	}
	return n
}

// Tests change these before they make an engine.
var (
	leastLanes = 1     // of each engine
	inStep     = false // helpers finish their work before more packets are read
)

// parcels is how many parcels a lane has: one that is filled while another is worked on.
const parcels = 2

// A parcel has packets of one lane.
type parcel struct {
	bufs    []*packet.Buffer
	ifindex []int // of inbound packets, as of Receiver.Recv
	n       int   // how many packets there are
	check   bool  // inbound_policy_check, as it is for inbound packets
}

func newParcel() parcel {
	return parcel{bufs: packet.NewBuffers(batchSize), ifindex: make([]int, batchSize)}
}

// A helper is a worker for the packets of one lane. One goroutine calls handle.
type helper interface{ handle(parcel) }

// A lane is the way of packets to a helper and of buffers back. The helper starts with the
// first packet, because the buffers need much memory.
type lane struct {
	number int
	begin  func(lane int) helper
	next   parcel // is being filled
	full   chan parcel
	free   chan parcel
	done   chan struct{} // closed when the helper has ended; nil: it has not started
}

// lanes are lane 1 and those after it. One goroutine owns them, the worker that reads; nil:
// it does all the work itself.
type lanes []*lane

// newLanes makes n lanes, for which begin makes the helpers.
func newLanes(n int, begin func(lane int) helper) (ls lanes) {
	for i := range n {
		ls = append(ls, &lane{number: i + 1, begin: begin})
	}
	return ls
}

func (l *lane) start() {
	l.full, l.free, l.done = make(chan parcel, parcels), make(chan parcel, parcels), make(chan struct{})
	for range parcels {
		l.free <- newParcel()
	}
	l.next = <-l.free
	h := l.begin(l.number)
	go func() {
		defer close(l.done)
		for p := range l.full {
			h.handle(p)
			p.n = 0
			l.free <- p
		}
	}()
}

// give gives a packet to a lane, and returns another buffer for it. It may wait until the
// lane has room. The packet arrived by the device with index ifindex, if it is inbound.
func (ls lanes) give(to int, b *packet.Buffer, ifindex int, check bool) *packet.Buffer {
	l := ls[to-1]
	if l.done == nil {
		l.start()
	}
	p := &l.next
	free := p.bufs[p.n]
	p.bufs[p.n], p.ifindex[p.n], p.check = b, ifindex, check
	if p.n++; p.n == len(p.bufs) {
		l.send()
	}
	return free
}

// send makes the helper begin with what it was given.
func (l *lane) send() {
	if l.next.n > 0 {
		l.full <- l.next
		l.next = <-l.free
	}
}

// send makes all helpers begin with what they were given.
func (ls lanes) send() {
	for _, l := range ls {
		l.send()
	}
}

// wait returns when the helpers have handled all that they were given.
func (ls lanes) wait() {
	ls.send()
	for _, l := range ls {
		if l.done == nil {
			continue
		}
		var back [parcels - 1]parcel
		for i := range back {
			back[i] = <-l.free
		}
		for _, p := range back {
			l.free <- p
		}
	}
}

// end returns when the helpers have handled all that they were given, and ends them.
func (ls lanes) end() {
	ls.send()
	for _, l := range ls {
		if l.done != nil {
			close(l.full)
			<-l.done
		}
	}
}

// A laneNumber is the lane of an SA's packets in one direction, plus 1; 0: it has none yet.
type laneNumber struct{ atomic.Int32 }

// choose returns the lane of an SA. If it has none, it gets the one whose turn it is, of n.
func (l *laneNumber) choose(turn *atomic.Uint32, n int) int {
	if k := l.Load(); k != 0 {
		return int(k) - 1
	}
	l.CompareAndSwap(0, int32((turn.Add(1)-1)%uint32(n)+1))
	return int(l.Load()) - 1
}

// share gives the packets of other lanes to these. The others are then at the beginning of
// bufs; it returns their number.
func (w *outWorker) share(n int) (own int) {
	for i, b := range w.bufs[:n] {
		switch to := w.laneOf(b); to {
		case nowhere:
		case 0:
			w.bufs[own], w.bufs[i] = b, w.bufs[own]
			own++
		default:
			w.bufs[i] = w.others.give(to, b, 0, false)
		}
	}
	w.others.send()
	return own
}

// nowhere is the lane of a fragment that waits for others.
const nowhere = -1

// laneOf returns the lane of a packet that was read from the device. Packets that no SA
// protects are in lane 0.
func (w *outWorker) laneOf(b *packet.Buffer) int {
	h, ok := packet.ParseIP(b.Bytes())
	if !ok {
		return 0
	}
	w.first = h
	b.End = b.Off + h.Total
	if h.Frag && !w.whole(b, &h) {
		return nowhere
	}
	sel := selector(b.Bytes(), &h)
	r := w.routes.Lookup(&sel)
	if r == nil || r.ID.IsMagic() {
		return 0
	}
	sa := w.e.choose(r, &h, &sel)
	if sa == nil {
		return 0
	}
	return sa.Data.(*states).outLane.choose(&w.e.outTurn, w.e.lanes)
}

// sameLane puts an SA into the lane of the next one, whose packets its packets become.
func (w *outWorker) sameLane(sa, next *sadb.SA) {
	if w.e.lanes > 1 {
		to := next.Data.(*states).outLane.choose(&w.e.outTurn, w.e.lanes)
		sa.Data.(*states).outLane.Store(int32(to) + 1)
	}
}

// share gives the packets of other lanes to these. The others are then at the beginning of
// bufs, and what belongs to them at that of ifindex; it returns their number.
func (w *inWorker) share(n int) (own int) {
	for i, b := range w.bufs[:n] {
		if to := w.laneOf(b.Bytes()); to != 0 {
			w.bufs[i] = w.others.give(to, b, w.ifindex[i], w.check)
			continue
		}
		w.bufs[own], w.bufs[i] = b, w.bufs[own]
		w.ifindex[own] = w.ifindex[i]
		own++
	}
	w.others.send()
	return own
}

// laneOf returns the lane of a packet that has arrived. All SAs of a group are in one lane,
// because a helper removes all headers of a packet. Packets without an SA are in lane 0.
// Without inbound_policy_check all are, because then any SA may follow another.
func (w *inWorker) laneOf(p []byte) int {
	id, ok := outermost(p)
	if !ok || !w.check {
		return 0
	}
	sa := w.e.sas.Lookup(id)
	if sa == nil {
		return 0
	}
	whole, first := sa.Received()
	if !first {
		return 0 // it will be refused
	}
	k := sa.Data.(*states).inLane.Load()
	for _, other := range whole {
		if l := other.Data.(*states).inLane.Load(); l == 0 || l != k {
			return w.gather(whole)
		}
	}
	return int(k) - 1
}

// gather puts all SAs of a group into one lane, and returns that. An SA that had another
// lane leaves it when its packets there are handled.
func (w *inWorker) gather(group []*sadb.SA) int {
	to := group[0].Data.(*states).inLane.choose(&w.e.inTurn, w.e.lanes)
	for _, sa := range group[1:] {
		w.move(sa, to)
	}
	return to
}

// move puts an SA into a lane.
func (w *inWorker) move(sa *sadb.SA, to int) {
	l := &sa.Data.(*states).inLane
	if old := l.Load(); old != 0 && old != int32(to)+1 {
		w.others.wait()
	}
	l.Store(int32(to) + 1)
}

// owns reports whether an SA is in the worker's lane, so that the worker may change its
// window. The worker that reads gets it there: another SA may follow the first one of a
// packet than when the lane was chosen, or any without inbound_policy_check. A helper does
// not wait for others.
func (w *inWorker) owns(sa *sadb.SA) bool {
	switch {
	case w.e.lanes == 1 || sa.Data.(*states).inLane.Load() == int32(w.lane)+1:
		return true
	case w.lane != 0:
		return false
	}
	w.move(sa, 0)
	return true
}

// outermost returns the SA that the first header of a packet names, if that is ESP, also in
// UDP, or AH.
func outermost(p []byte) (id klips.SAID, ok bool) {
	h, ok := packet.ParseIP(p)
	if !ok || h.Frag {
		return id, false
	}
	id = klips.SAID{Dst: h.Dst, Proto: klips.Proto(h.Proto)}
	data, at := p[h.Len:h.Total], 0
	switch h.Proto {
	case packet.ProtoESP:
	case packet.ProtoAH:
		at = 4 // the SPI follows the next header, the length and a reserved field
	case packet.ProtoUDP:
		id.Proto = klips.ProtoESP
		at = udpencap.Overhead(udpencap.TypeOf(data))
		if at == 0 {
			return id, false
		}
	default:
		return id, false
	}
	if len(data) < at+4 {
		return id, false
	}
	id.SPI = klips.SPI(binary.BigEndian.Uint32(data[at:]))
	return id, true
}

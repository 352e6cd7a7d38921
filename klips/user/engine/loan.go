package engine

import "sync/atomic"

// To wake a goroutine often costs more than what it then does for a few packets. A stream in
// one direction has few packets in the other, acknowledgements for example, and without more
// each of them wakes a worker. So a machine with few processors lends the inbound worker to the
// goroutine that reads the packets of a device. That goroutine then waits for both directions,
// and takes from both in turn. The goroutine of the inbound worker waits until it has its
// worker back.
//
// If both directions have many packets, two goroutines can use two processors. So the worker
// is not lent then.

// A loan is the inbound worker on its way.
type loan struct {
	borrower atomic.Pointer[outWorker] // who has it, or has asked for it; nil: nobody
	out      chan *inWorker            // to the borrower
	back     chan struct{}             // its goroutine has it back
}

func newLoan() loan {
	return loan{out: make(chan *inWorker), back: make(chan struct{}, 1)}
}

// lend gives the worker to the goroutine that has asked for it, if one has, and returns when
// it is back.
func (w *inWorker) lend() {
	if l := &w.e.loan; l.borrower.Load() != nil {
		l.out <- w
		<-l.back
	}
}

// borrow gets the inbound worker, unless another goroutine has it, or the engine is closing.
func (w *outWorker) borrow() {
	l := &w.e.loan
	if !l.borrower.CompareAndSwap(nil, w) {
		return
	}
	w.e.receiver.Join(w.d.link)
	select {
	case w.in = <-l.out:
	case <-w.e.inDone:
		w.e.receiver.Join(nil)
		l.borrower.Store(nil)
	}
}

// giveBack gives the inbound worker back, if this goroutine has it.
func (w *outWorker) giveBack() {
	if w.in == nil {
		return
	}
	l := &w.e.loan
	w.in = nil
	w.e.receiver.Join(nil)
	l.borrower.Store(nil)
	l.back <- struct{}{}
}

// borrowed is what an outWorker keeps of the loan.
type borrowed struct {
	in *inWorker // nil: it has not borrowed it

	// Since the loan was considered last, this worker has handled sent. Until then the
	// inbound worker had handled received.
	sent, received tally
}

// A tally is how many packets a worker has handled, and in how many batches.
type tally struct{ batches, packets uint64 }

// read takes packets from the device. It waits for them unless there is a turn for packets
// that arrive, which then waits for both.
func (w *outWorker) read() (int, error) {
	if w.in != nil {
		return w.d.link.Poll(w.bufs)
	}
	return w.d.link.Read(w.bufs)
}

// turn follows each read of n packets. With the inbound worker it waits for packets of either
// direction, and handles those that have arrived.
func (w *outWorker) turn(n int) {
	if w.e.lanes > 1 {
		return
	}
	if n > 0 {
		w.sent.batches++
		w.sent.packets += uint64(n)
	}
	if w.in != nil {
		n, err := w.e.receiver.Recv(w.in.bufs, w.in.ifindex)
		if err != nil { // the receiver is closed, or cannot wait for the device
			w.giveBack()
			return
		}
		w.in.batch(n)
	}
	w.consider()
}

// consider borrows the inbound worker or gives it back from time to time, whichever is better
// for such packets as there were since.
func (w *outWorker) consider() {
	h := &w.e.inbound.handled
	now := tally{h.batches.Load(), h.packets.Load()}
	in := tally{now.batches - w.received.batches, now.packets - w.received.packets}
	if in.batches+w.sent.batches < someBatches {
		return
	}
	switch lent := w.in != nil; {
	case toLend(in, w.sent, lent) == lent:
	case lent:
		w.giveBack()
	default:
		w.borrow()
	}
	w.sent, w.received = tally{}, now
}

// Workers have many packets if these are so many in a batch, on average. If the inbound worker
// is lent, it takes twice as many to give it back.
const many = 8

// Tests change these before they make an engine.
var (
	someBatches = uint64(64) // after so many of both directions a loan is considered
	toLend      = lending
)

// lending returns whether the inbound worker should be lent while there are such packets in
// and out as those of these tallies. lent: it is lent already.
func lending(in, out tally, lent bool) bool {
	if in.packets == 0 || out.packets == 0 {
		return false // one of the goroutines is not woken anyway
	}
	least := uint64(many)
	if lent {
		least *= 2
	}
	return in.packets < least*in.batches || out.packets < least*out.batches
}

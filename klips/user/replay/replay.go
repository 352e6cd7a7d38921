// Package replay is the anti-replay window of ESP and AH (RFC 4303 section 3.4.3) with
// KLIPS' decisions, for windows of up to 4096 packets. It also infers the 64-bit number
// of a packet that carries only the low half.
package replay

import (
	"math/bits"
	"sync/atomic"
)

// MaxSize is the largest window in packets.
const MaxSize = 4096

// A Window records which of the highest sequence numbers have been received. The zero
// value means no window: it accepts everything and records nothing.
//
// Init must be called first, before the Window is shared. Then one goroutine may call
// Check and Update; all may call Last, Bitmap, MaxDiff and Size. During an update, the
// values that others read may belong to different packets.
type Window struct {
	size    uint32
	last    atomic.Uint64
	maxDiff atomic.Uint32

	// history of a window of at most 64: bit n is the number last-n. Bits beyond the
	// window are not cleared, as in KLIPS' listings.
	history atomic.Uint64

	// ring of a larger window (RFC 6479): bit n&63 of word n>>6&mask is the number n.
	// It has at least one word more than the window needs, so that all words of a
	// window are different.
	ring []atomic.Uint64
	mask uint64
}

// Init makes the window size packets large, at most MaxSize, and empty. 0 means no
// window. It allocates for windows above 64.
func (w *Window) Init(size uint32) {
	w.size = min(size, MaxSize)
	w.last.Store(0)
	w.maxDiff.Store(0)
	w.history.Store(0)
	w.ring, w.mask = nil, 0
	if w.size > 64 {
		words := uint64(1) << bits.Len32((w.size-1)/64+1)
		w.ring, w.mask = make([]atomic.Uint64, words), words-1
	}
}

// Resume makes an initialized window count last and all lower numbers as received. It
// is for callers that know how far an earlier window has come, but not which numbers it
// has received.
func (w *Window) Resume(last uint64) {
	if w.size == 0 || last == 0 {
		return
	}
	w.Update(last)
	for i := range min(last, uint64(w.size)) {
		w.Update(last - i)
	}
	w.maxDiff.Store(0) // none was skipped
}

// Size returns the size in packets, 0 for no window.
func (w *Window) Size() uint32 { return w.size }

// Extend returns the extended sequence number of a packet that carries only its low 32
// bits (RFC 4303 appendix A2.2): of all numbers that end in low, the first that is not
// before the window. The number is only a guess until the ICV, which covers its high
// half, has been verified. Extend changes nothing.
//
// Two cases are not in the RFC. While the window reaches below number 1, there
// is no number before it, so the high half is 0. At the end of the number space
// the guess starts again from 0, which Check refuses. Without a window the high
// half is always 0: extended numbers need one.
func (w *Window) Extend(low uint32) uint64 {
	last := w.last.Load()
	if w.size == 0 || last < uint64(w.size) {
		return uint64(low)
	}
	bottom := last - uint64(w.size) + 1
	return bottom + uint64(low-uint32(bottom))
}

// Check reports whether Update would accept a sequence number now: it is not 0, not yet
// received, and not older than the window. It changes nothing.
func (w *Window) Check(seq uint64) bool {
	if w.size == 0 {
		return true
	}
	last := w.last.Load()
	switch {
	case seq == 0:
		return false
	case seq > last:
		return true
	case last-seq >= uint64(w.size):
		return false
	case w.ring == nil:
		return w.history.Load()>>(last-seq)&1 == 0
	}
	return w.ring[seq>>6&w.mask].Load()>>(seq&63)&1 == 0
}

// TooOld reports whether a sequence number is below the window, so that it is unknown
// whether it was received.
func (w *Window) TooOld(seq uint64) bool {
	last := w.last.Load()
	return w.size != 0 && seq <= last && last-seq >= uint64(w.size)
}

// Update marks a sequence number as received. If Check would return false, it returns
// false and changes nothing.
func (w *Window) Update(seq uint64) bool {
	if !w.Check(seq) {
		return false
	}
	if w.size == 0 {
		return true
	}
	last := w.last.Load()
	if w.ring != nil {
		w.updateRing(seq, last)
	} else if seq > last {
		h := uint64(1)
		if d := seq - last; d < uint64(w.size) {
			h |= w.history.Load() << d
		}
		w.history.Store(h)
	} else {
		w.history.Store(w.history.Load() | 1<<(last-seq))
	}
	if seq > last {
		// Skipped numbers; the listing has 32 bits for them.
		if d := uint32(min(seq-last-1, 1<<32-1)); d > w.maxDiff.Load() {
			w.maxDiff.Store(d)
		}
		w.last.Store(seq)
	}
	return true
}

func (w *Window) updateRing(seq, last uint64) {
	if seq > last {
		// New words of the ring contain numbers of an earlier turn.
		n := min(seq>>6-last>>6, w.mask+1)
		for i := range n {
			w.ring[(seq>>6-i)&w.mask].Store(0)
		}
	}
	word := &w.ring[seq>>6&w.mask]
	word.Store(word.Load() | 1<<(seq&63))
}

// Last returns the highest sequence number received, 0 before the first.
func (w *Window) Last() uint64 { return w.last.Load() }

// MaxDiff returns the largest number of sequence numbers skipped at once.
func (w *Window) MaxDiff() uint32 { return w.maxDiff.Load() }

// Bitmap returns which of the highest 64 numbers were received: bit 0 is Last, bit n
// the number Last-n.
func (w *Window) Bitmap() uint64 {
	if w.ring == nil {
		return w.history.Load()
	}
	last := w.last.Load()
	have := last & 63 // bits of the newest word below Last
	b := w.ring[last>>6&w.mask].Load() << (63 - have)
	if have < 63 && last>>6 > 0 {
		b |= w.ring[(last>>6-1)&w.mask].Load() >> (have + 1)
	}
	// Now bit 63 is Last.
	return bits.Reverse64(b)
}

package sadb

import (
	"math"
	"sync/atomic"
)

// Sent is which sequence numbers have been sent with the keys of an SA, and which may
// be. Its methods neither lock nor allocate.
type Sent struct {
	Seq atomic.Uint64 // the last one

	limit atomic.Uint64 // none above it may be sent
	low   atomic.Uint64 // from here on it is time for a higher limit
}

// newSent returns numbers without a limit.
func newSent() *Sent {
	s := new(Sent)
	s.SetLimit(math.MaxUint64)
	return s
}

// SetLimit lets numbers up to limit be sent; the largest one is no limit.
func (s *Sent) SetLimit(limit uint64) {
	low := uint64(math.MaxUint64)
	if last := s.Seq.Load(); limit != math.MaxUint64 {
		low = last + (limit-min(last, limit))/2
	}
	s.low.Store(low)
	s.limit.Store(limit)
}

// Limit returns the limit.
func (s *Sent) Limit() uint64 { return s.limit.Load() }

// IsLow reports whether a number is closer to the limit than it was to the last one
// sent when the limit was set.
func (s *Sent) IsLow(seq uint64) bool { return seq >= s.low.Load() }

// Stop makes sure that no number is sent any more, and returns the last one that was.
// The numbers are used up then.
func (s *Sent) Stop() uint64 { return s.Seq.Swap(math.MaxUint64) }

// NextSeq counts Seq up and returns the sequence number for the next packet to be
// sent. ok is false when all are used up, as numbers must not cycle (RFC 4303
// section 3.3.3), and when the limit is reached.
func (sa *SA) NextSeq() (seq uint64, ok bool) {
	for {
		last := sa.Seq.Load()
		if last >= sa.MaxSeq() || last >= sa.limit.Load() {
			return 0, false
		}
		if sa.Seq.CompareAndSwap(last, last+1) {
			return last + 1, true
		}
	}
}

// Exhausted reports whether NextSeq would fail for good.
func (sa *SA) Exhausted() bool { return sa.Seq.Load() >= sa.MaxSeq() }

// AtLimit reports whether NextSeq would fail until there is a higher limit.
func (sa *SA) AtLimit() bool { return sa.Seq.Load() >= sa.limit.Load() }

// MaxSeq returns the largest sequence number that the SA can have.
func (sa *SA) MaxSeq() uint64 {
	if sa.ESN {
		return math.MaxUint64
	}
	return math.MaxUint32
}

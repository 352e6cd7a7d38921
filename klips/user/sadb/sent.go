package sadb

import (
	"math"
	"sync/atomic"
)

// Sent records which sequence numbers have been sent with the keys of an SA, and which
// may be. Its methods neither lock nor allocate.
type Sent struct {
	Seq atomic.Uint64 // the last one

	limit atomic.Uint64 // numbers above it must not be sent
	low   atomic.Uint64 // from this number on, a higher limit is needed soon
}

// newSent returns a Sent without a limit.
func newSent() *Sent {
	s := new(Sent)
	s.SetLimit(math.MaxUint64)
	return s
}

// SetLimit allows numbers up to limit; math.MaxUint64 means no limit.
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

// IsLow reports whether half of the numbers that were left when the limit was set have
// been used up to seq.
func (s *Sent) IsLow(seq uint64) bool { return seq >= s.low.Load() }

// Stop makes all later calls of NextSeq fail, and returns the last number sent.
func (s *Sent) Stop() uint64 { return s.Seq.Swap(math.MaxUint64) }

// NextSeq increments Seq and returns the sequence number for the next packet. ok is
// false when all numbers are used up, as they must not cycle (RFC 4303 section 3.3.3),
// or when the limit is reached.
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

// Exhausted reports whether NextSeq fails for ever.
func (sa *SA) Exhausted() bool { return sa.Seq.Load() >= sa.MaxSeq() }

// AtLimit reports whether NextSeq fails until a higher limit is set.
func (sa *SA) AtLimit() bool { return sa.Seq.Load() >= sa.limit.Load() }

// MaxSeq returns the largest sequence number that the SA can have.
func (sa *SA) MaxSeq() uint64 {
	if sa.ESN {
		return math.MaxUint64
	}
	return math.MaxUint32
}

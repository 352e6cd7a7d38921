package eroute

import (
	"math/bits"
	"sync/atomic"
)

// A shape is the part of an eroute's mask after the source prefix: a destination length
// and a kind.
type shape struct {
	dstBits uint8
	kind    kind
	n       uint32 // number of eroutes with it; only the writer uses it
	next    atomic.Pointer[shape]
}

// shapes is a sorted list of the shapes in use, longest destinations first. Readers may
// walk it while the writer changes it. They see every shape that is in the list all the
// time. A reader on a shape that is being removed continues from it. It may still visit
// unused shapes, and may miss shapes added later; their eroutes are newer than the
// version it reads.
type shapes struct {
	first atomic.Pointer[shape]
	len   atomic.Int32
}

// find returns the pointer to the shape, or to where it must be inserted.
func (l *shapes) find(dstBits uint8, k kind) (link *atomic.Pointer[shape], found bool) {
	link = &l.first
	for s := link.Load(); s != nil; s = link.Load() {
		if s.dstBits < dstBits || s.dstBits == dstBits && s.kind <= k {
			return link, s.dstBits == dstBits && s.kind == k
		}
		link = &s.next
	}
	return link, false
}

// add counts one more eroute with a shape.
func (l *shapes) add(dstBits uint8, k kind) {
	link, found := l.find(dstBits, k)
	if found {
		link.Load().n++
		return
	}
	s := &shape{dstBits: dstBits, kind: k, n: 1}
	s.next.Store(link.Load())
	link.Store(s)
	l.len.Add(1)
}

// remove counts one eroute less with a shape in the list.
func (l *shapes) remove(dstBits uint8, k kind) {
	link, found := l.find(dstBits, k)
	if !found {
		return
	}
	s := link.Load()
	if s.n--; s.n == 0 {
		link.Store(s.next.Load())
		l.len.Add(-1)
	}
}

// A lengths is a set of prefix lengths.
type lengths [maxBits/64 + 1]atomic.Uint64

func (l *lengths) add(n uint8)    { l[n/64].Or(1 << (n % 64)) }
func (l *lengths) remove(n uint8) { l[n/64].And(^(uint64(1) << (n % 64))) }

// max returns the greatest length not above n, -1 if there is none; n may be -1.
func (l *lengths) max(n int) int {
	for ; n >= 0; n = n&^63 - 1 {
		if w := l[n/64].Load() << (63 - n%64); w != 0 {
			return n - bits.LeadingZeros64(w)
		}
	}
	return -1
}

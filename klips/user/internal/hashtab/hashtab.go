// Package hashtab is a hash table of pointers that readers search without locks while
// one writer changes it. The databases of the embedded stack use it.
package hashtab

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// A Table is a set of elements, each with a hash that its owner computed. The
// zero Table is empty and ready for use.
//
// Find may be called from any goroutine at any time. All other methods are for the
// writer: their calls must not overlap. Find sees an element if its Insert had returned
// and its Remove had not begun when Find was called.
//
// It uses open addressing with linear probing. An element never moves within an array
// of slots, so a search cannot miss it; a new array is filled before readers see it.
// Removing leaves a tombstone, so that searches continue after it. Every slot has the
// whole hash of its element: searches need not read other elements, and growing reads
// none.
type Table[T any] struct {
	slots atomic.Pointer[[]slot[T]] // length is a power of two
	tomb  atomic.Pointer[T]
	live  int // elements
	used  int // elements and tombstones
}

type slot[T any] struct {
	hash atomic.Uint64
	elem atomic.Pointer[T]
}

const minSlots = 16

// Find returns the element with that hash for which is reports true, nil if there is
// none. It neither locks nor allocates.
func (t *Table[T]) Find(hash uint64, is func(*T) bool) *T {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots, tomb := *p, t.tomb.Load()
	mask := uint64(len(slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		e := s.elem.Load()
		if e == nil {
			return nil
		}
		if s.hash.Load() == hash && e != tomb && is(e) {
			return e
		}
	}
}

// Insert inserts an element. The caller ensures that there is no equal one.
func (t *Table[T]) Insert(hash uint64, e *T) {
	p := t.slots.Load()
	if p == nil || t.used >= len(*p)/2 {
		// Half of the slots stay empty, so that searches are short and end.
		t.resize(t.live + t.live/4 + 1)
		p = t.slots.Load()
	}
	if put(*p, t.tomb.Load(), hash, e) {
		t.used++
	}
	t.live++
}

// put stores e in the first free slot and reports whether that had never been used.
func put[T any](slots []slot[T], tomb *T, hash uint64, e *T) (fresh bool) {
	mask := uint64(len(slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		if old := s.elem.Load(); old == nil || old == tomb {
			s.hash.Store(hash)
			s.elem.Store(e)
			return old == nil
		}
	}
}

// Replace replaces an element with one of the same hash: at any time, Find returns one
// of the two.
func (t *Table[T]) Replace(hash uint64, old, e *T) { t.swap(hash, old, e) }

// Remove removes an element, which must be in the table.
func (t *Table[T]) Remove(hash uint64, e *T) {
	if !t.swap(hash, e, t.tomb.Load()) {
		return
	}
	t.live--
	if n := len(*t.slots.Load()); n > minSlots && t.live < n/16 {
		t.resize(2 * t.live)
	}
}

func (t *Table[T]) swap(hash uint64, old, e *T) bool {
	p := t.slots.Load()
	if p == nil {
		return false
	}
	mask := uint64(len(*p) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &(*p)[i]
		switch s.elem.Load() {
		case nil:
			return false
		case old:
			s.elem.Store(e)
			return true
		}
	}
}

// Len returns the number of elements.
func (t *Table[T]) Len() int { return t.live }

// All yields every element, in no order.
func (t *Table[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		p := t.slots.Load()
		if p == nil {
			return
		}
		tomb := t.tomb.Load()
		for i := range *p {
			if e := (*p)[i].elem.Load(); e != nil && e != tomb && !yield(e) {
				return
			}
		}
	}
}

// Clear removes all elements.
func (t *Table[T]) Clear() {
	t.slots.Store(nil)
	t.live, t.used = 0, 0
}

// resize makes an array of slots for n elements, and copies those of the old one
// without its tombstones.
func (t *Table[T]) resize(n int) {
	if t.tomb.Load() == nil {
		t.tomb.Store(new(T))
	}
	tomb := t.tomb.Load()
	size := minSlots
	if n > minSlots/2 {
		size = 2 << bits.Len(uint(n-1))
	}
	slots := make([]slot[T], size)
	if p := t.slots.Load(); p != nil {
		for i := range *p {
			s := &(*p)[i]
			if e := s.elem.Load(); e != nil && e != tomb {
				put(slots, tomb, s.hash.Load(), e)
			}
		}
	}
	t.used = t.live
	t.slots.Store(&slots)
}

// Mix hashes two words into one.
func Mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

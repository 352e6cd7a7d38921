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
// none. Eight bits of the hash, the tag, are in an array of their own: that of a large table
// fits into a cache of the processor, so that searches in vain do not wait for memory.
type Table[T any] struct {
	array atomic.Pointer[array[T]]
	tomb  atomic.Pointer[T]
	live  int // elements
	used  int // elements and tombstones
}

// An array has slots, and a tag for each: 0 if the slot has never been used.
type array[T any] struct {
	slots []slot[T]       // length is a power of two
	tags  []atomic.Uint32 // four tags each
}

func newArray[T any](n int) *array[T] {
	return &array[T]{slots: make([]slot[T], n), tags: make([]atomic.Uint32, n/4)}
}

func (a *array[T]) tag(i uint64) uint8 { return uint8(a.tags[i/4].Load() >> (i % 4 * 8)) }

// setTag is for the writer.
func (a *array[T]) setTag(i uint64, tag uint8) {
	shift := i % 4 * 8
	w := &a.tags[i/4]
	w.Store(w.Load()&^(0xff<<shift) | uint32(tag)<<shift)
}

// tagOf returns the tag for a hash: bits that do not select the slot, and not 0.
func tagOf(hash uint64) uint8 { return uint8(hash>>56) | 1 }

type slot[T any] struct {
	hash atomic.Uint64
	elem atomic.Pointer[T]
}

const minSlots = 16

// Find returns the element with that hash for which is reports true, nil if there is
// none. It neither locks nor allocates.
func (t *Table[T]) Find(hash uint64, is func(*T) bool) *T {
	a := t.array.Load()
	if a == nil {
		return nil
	}
	mask, tag := uint64(len(a.slots)-1), tagOf(hash)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch a.tag(i) {
		case 0:
			return nil
		case tag:
			s := &a.slots[i]
			if e := s.elem.Load(); s.hash.Load() == hash && e != nil && e != t.tomb.Load() && is(e) {
				return e
			}
		}
	}
}

// Insert inserts an element. The caller ensures that there is no equal one.
func (t *Table[T]) Insert(hash uint64, e *T) {
	a := t.array.Load()
	if a == nil || t.used >= len(a.slots)/2 {
		// Half of the slots stay empty, so that searches are short and end.
		t.resize(t.live + t.live/4 + 1)
		a = t.array.Load()
	}
	if a.put(t.tomb.Load(), hash, e) {
		t.used++
	}
	t.live++
}

// put stores e in the first free slot and reports whether that had never been used.
func (a *array[T]) put(tomb *T, hash uint64, e *T) (fresh bool) {
	mask := uint64(len(a.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &a.slots[i]
		if old := s.elem.Load(); old == nil || old == tomb {
			s.hash.Store(hash)
			s.elem.Store(e)
			a.setTag(i, tagOf(hash))
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
	if n := len(t.array.Load().slots); n > minSlots && t.live < n/16 {
		t.resize(2 * t.live)
	}
}

func (t *Table[T]) swap(hash uint64, old, e *T) bool {
	a := t.array.Load()
	if a == nil {
		return false
	}
	mask := uint64(len(a.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &a.slots[i]
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
		a := t.array.Load()
		if a == nil {
			return
		}
		tomb := t.tomb.Load()
		for i := range a.slots {
			if e := a.slots[i].elem.Load(); e != nil && e != tomb && !yield(e) {
				return
			}
		}
	}
}

// Clear removes all elements.
func (t *Table[T]) Clear() {
	t.array.Store(nil)
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
	a := newArray[T](size)
	if old := t.array.Load(); old != nil {
		for i := range old.slots {
			s := &old.slots[i]
			if e := s.elem.Load(); e != nil && e != tomb {
				a.put(tomb, s.hash.Load(), e)
			}
		}
	}
	t.used = t.live
	t.array.Store(a)
}

// Mix hashes two words into one.
func Mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// Package hashtab is a hash table that readers search without locks while one writer
// changes it. The databases of the embedded stack use it.
package hashtab

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// A Table maps keys to elements. The caller computes the hash of each key. The zero Table
// is empty and ready for use.
//
// Find may be called from any goroutine at any time. All other methods are for the
// writer: their calls must not overlap. Find sees an element if its Insert had returned
// and its Remove had not begun when Find was called.
//
// It uses open addressing. The slots are in groups of eight, and a search continues with
// the next group while the group has no slot that is free. An element never moves within
// an array of slots, so a search cannot miss it; a new array is filled before readers see
// it. The slot of a removed element keeps its key, so that searches continue after it and
// no reader sees a key change.
//
// In a large table a search takes as long as the memory that it waits for, so it reads
// little. A slot has the key: a search does not read elements. Eight bits of each hash, the
// tag, are in an array of their own, one word for a group. That of a large table fits into
// a cache of the processor, so that searches in vain do not wait for memory at all.
type Table[K comparable, T any] struct {
	array atomic.Pointer[array[K, T]]
	live  int // elements
	used  int // slots that are not free: of elements and of removed ones
}

// An array has groups of slots, and a word of tags for each group. The tag of a free slot
// is 0.
type array[K comparable, T any] struct {
	tags  []atomic.Uint64
	slots []slot[K, T]
}

// A slot has its key and hash from before its tag is stored, and never others.
type slot[K comparable, T any] struct {
	key  K
	elem atomic.Pointer[T] // nil: removed, or the slot is free
	hash uint64
}

const (
	groupSlots = 8
	minGroups  = 2

	ones = 0x01_01_01_01_01_01_01_01 // the lowest bit of each tag in a group
	lows = 0x7f_7f_7f_7f_7f_7f_7f_7f // all bits except the highest
)

func newArray[K comparable, T any](groups int) *array[K, T] {
	return &array[K, T]{tags: make([]atomic.Uint64, groups), slots: make([]slot[K, T], groups*groupSlots)}
}

// first returns the group in which a search for a hash begins.
func (a *array[K, T]) first(hash uint64) uint {
	g, _ := bits.Mul64(hash, uint64(len(a.tags)))
	return uint(g)
}

// next returns the group after g.
func (a *array[K, T]) next(g uint) uint {
	if g++; g < uint(len(a.tags)) {
		return g
	}
	return 0
}

// tagOf returns the tag for a hash: bits that hardly select the group, and not 0.
func tagOf(hash uint64) uint64 { return max(hash&0xff, 1) }

// zeros returns the highest bit of each tag of a group that is 0.
func zeros(tags uint64) uint64 { return ^(tags&lows + lows | tags | lows) }

// slotOf returns the place in its group of the lowest tag in a result of zeros.
func slotOf(zeros uint64) uint { return uint(bits.TrailingZeros64(zeros)) / 8 }

// Find returns the element with a key, nil if there is none. It neither locks nor
// allocates.
func (t *Table[K, T]) Find(hash uint64, key *K) *T {
	a := t.array.Load()
	if a == nil {
		return nil
	}
	tag := tagOf(hash) * ones
	for g := a.first(hash); ; g = a.next(g) {
		tags := a.tags[g].Load()
		for m := zeros(tags ^ tag); m != 0; m &= m - 1 {
			if s := &a.slots[g*groupSlots+slotOf(m)]; s.key == *key {
				if e := s.elem.Load(); e != nil {
					return e
				}
			}
		}
		if zeros(tags) != 0 {
			return nil
		}
	}
}

// Insert inserts an element with a key that has none.
func (t *Table[K, T]) Insert(hash uint64, key K, e *T) {
	if s := t.slot(hash, func(s *slot[K, T]) bool { return s.key == key }); s != nil {
		s.elem.Store(e) // an element with that key was removed
		t.live++
		return
	}
	a := t.array.Load()
	if a == nil || t.used >= len(a.slots)/4*3 {
		// A quarter of the slots stay free, so that searches are short and end.
		t.resize(t.live + 1)
		a = t.array.Load()
	}
	a.put(hash, key, e)
	t.used++
	t.live++
}

// put stores an element in the first slot that is free.
func (a *array[K, T]) put(hash uint64, key K, e *T) {
	for g := a.first(hash); ; g = a.next(g) {
		tags := a.tags[g].Load()
		free := zeros(tags)
		if free == 0 {
			continue
		}
		i := slotOf(free)
		s := &a.slots[g*groupSlots+i]
		s.key, s.hash = key, hash
		s.elem.Store(e)
		a.tags[g].Store(tags | tagOf(hash)<<(i*8)) // from now on readers see the slot
		return
	}
}

// slot returns the slot with a hash for which is reports true, nil if there is none. Only
// the writer may use it. Find is the same search, without a call for each slot.
func (t *Table[K, T]) slot(hash uint64, is func(*slot[K, T]) bool) *slot[K, T] {
	a := t.array.Load()
	if a == nil {
		return nil
	}
	tag := tagOf(hash) * ones
	for g := a.first(hash); ; g = a.next(g) {
		tags := a.tags[g].Load()
		for m := zeros(tags ^ tag); m != 0; m &= m - 1 {
			if s := &a.slots[g*groupSlots+slotOf(m)]; s.hash == hash && is(s) {
				return s
			}
		}
		if zeros(tags) != 0 {
			return nil
		}
	}
}

// Replace replaces an element with one of the same key: at any time, Find returns one of
// the two.
func (t *Table[K, T]) Replace(hash uint64, old, e *T) { t.swap(hash, old, e) }

// Remove removes an element, which must be in the table.
func (t *Table[K, T]) Remove(hash uint64, e *T) {
	if !t.swap(hash, e, nil) {
		return
	}
	t.live--
	if n := len(t.array.Load().slots); n > minGroups*groupSlots && t.live < n/8 {
		t.resize(t.live)
	}
}

func (t *Table[K, T]) swap(hash uint64, old, e *T) bool {
	s := t.slot(hash, func(s *slot[K, T]) bool { return s.elem.Load() == old })
	if s == nil {
		return false
	}
	s.elem.Store(e)
	return true
}

// Len returns the number of elements.
func (t *Table[K, T]) Len() int { return t.live }

// All yields every element, in no order.
func (t *Table[K, T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		a := t.array.Load()
		if a == nil {
			return
		}
		for i := range a.slots {
			if e := a.slots[i].elem.Load(); e != nil && !yield(e) {
				return
			}
		}
	}
}

// Clear removes all elements.
func (t *Table[K, T]) Clear() {
	t.array.Store(nil)
	t.live, t.used = 0, 0
}

// resize makes an array with twice as many slots as n elements need, and copies the
// elements of the old one.
func (t *Table[K, T]) resize(n int) {
	a := newArray[K, T](max(minGroups, (2*n+groupSlots-1)/groupSlots))
	if old := t.array.Load(); old != nil {
		for i := range old.slots {
			if s := &old.slots[i]; s.elem.Load() != nil {
				a.put(s.hash, s.key, s.elem.Load())
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

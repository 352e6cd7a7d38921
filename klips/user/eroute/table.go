package eroute

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// A Table is a set of eroutes. Use New to make one. All methods may be called
// from several goroutines. Errors are syscall.Errno values: EINVAL is for
// selectors that are none (an invalid prefix, two families, IPv4 mapped into
// IPv6). Host bits in prefixes are dropped.
type Table struct {
	root atomic.Pointer[bySource]

	mu  sync.Mutex // held by all who change something
	age uint64
}

// New returns an empty Table.
func New() *Table {
	t := new(Table)
	t.root.Store(new(bySource))
	return t
}

// Lookup returns the eroute that takes the packet, nil if none does. It neither
// locks nor allocates, and counts nothing.
func (t *Table) Lookup(p *Packet) *Entry { return t.root.Load().lookup(p) }

// Get returns the eroute with exactly this selector, nil if there is none.
func (t *Table) Get(s klips.Selector) *Entry {
	s, err := checked(s)
	if err != nil {
		return nil
	}
	return t.root.Load().get(s)
}

// Add adds an eroute whose counter starts at e.Packets. EEXIST: there is one
// with that selector.
func (t *Table) Add(e klips.Eroute) error {
	_, err := t.put(e, false)
	return err
}

// Replace adds an eroute whose counter starts at e.Packets, in place of the one
// with that selector if there is one, which it returns. A packet meets either
// of them, never none.
func (t *Table) Replace(e klips.Eroute) (old *Entry, err error) {
	return t.put(e, true)
}

func (t *Table) put(e klips.Eroute, replace bool) (old *Entry, err error) {
	if e.Selector, err = checked(e.Selector); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	root := t.root.Load()
	if old = root.get(e.Selector); old != nil && !replace {
		return nil, syscall.EEXIST
	}
	t.age++
	t.root.Store(root.with(old, newEntry(&e, t.age)))
	return old, nil
}

// Delete removes the eroute with exactly this selector and returns it. ENOENT:
// there is none.
func (t *Table) Delete(s klips.Selector) (*Entry, error) {
	s, err := checked(s)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	root := t.root.Load()
	old := root.get(s)
	if old == nil {
		return nil, syscall.ENOENT
	}
	t.root.Store(root.with(old, nil))
	return old, nil
}

// Clear removes all eroutes and returns them in listing order.
func (t *Table) Clear() []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sorted(t.root.Swap(new(bySource)))
}

// All returns all eroutes in listing order (klips.CompareEroutes).
func (t *Table) All() []*Entry { return sorted(t.root.Load()) }

// Len returns the number of eroutes.
func (t *Table) Len() int { return t.root.Load().n }

func sorted(root *bySource) []*Entry {
	l := root.all(make([]*Entry, 0, root.n))
	slices.SortFunc(l, func(a, b *Entry) int { return klips.CompareSelectors(a.Selector, b.Selector) })
	return l
}

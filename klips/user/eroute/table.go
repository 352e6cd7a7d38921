package eroute

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// A Table is a set of eroutes. Use New to make one. All methods may be called from
// several goroutines. Errors are syscall.Errno values. EINVAL is for invalid selectors:
// an invalid prefix, two families, or IPv4 mapped into IPv6. Host bits in prefixes are
// dropped.
type Table struct {
	tables  atomic.Pointer[tables]
	version atomic.Uint64 // number of the newest visible change
	horizon atomic.Uint64 // eroutes ended up to this change may have been removed
	// The table does not change while the newest change that was begun is also done.
	begun, done atomic.Uint64

	mu sync.Mutex // held during every change
}

// tables holds the contents of a Table; Clear makes new ones.
type tables struct {
	number    uint64 // how many contents the Table had before
	four, six family
	also      int // how many further SAs the eroutes have; guarded by Table.mu
}

// A Packet holds the fields that eroutes match on.
type Packet struct {
	Src, Dst netip.Addr // of one family, unmapped
	Proto    uint8
	// Ports in host byte order; 0 for all protocols except TCP and UDP, and for
	// fragments other than the first.
	SrcPort, DstPort uint16
}

// Matches reports whether a selector matches the packet. A packet's port 0 matches only
// selectors without that port.
func (p *Packet) Matches(s *klips.Selector) bool {
	return s.Src.Contains(p.Src) && s.Dst.Contains(p.Dst) &&
		(s.Proto == 0 || s.Proto == p.Proto) &&
		(s.SrcPort == 0 || s.SrcPort == p.SrcPort) &&
		(s.DstPort == 0 || s.DstPort == p.DstPort)
}

// New returns an empty Table.
func New() *Table {
	t := new(Table)
	t.tables.Store(newTables(0))
	return t
}

func newTables(number uint64) *tables {
	var b [16]byte
	rand.Read(b[:]) // never fails
	s := &tables{number: number}
	s.four.seed = binary.LittleEndian.Uint64(b[:8])
	s.six.seed = binary.LittleEndian.Uint64(b[8:])
	return s
}

func (s *tables) family(six bool) *family {
	if six {
		return &s.six
	}
	return &s.four
}

// Lookup returns the eroute for the packet, nil if none matches. It neither locks nor
// allocates, and counts nothing.
func (t *Table) Lookup(p *Packet) *Entry {
	if !p.isValid() {
		return nil
	}
	e, _, _ := t.lookup(p)
	return e
}

// lookup returns the eroute for a valid packet, nil if none matches, and the version and the
// number of the contents for which that is right.
func (t *Table) lookup(p *Packet) (e *Entry, version, contents uint64) {
	if version := t.done.Load(); t.begun.Load() == version {
		s := t.tables.Load()
		e := s.family(!p.Src.Is4()).lookup(p, unchanging)
		if t.begun.Load() == version {
			return e, version, s.number
		}
	}
	for {
		version := t.version.Load()
		s := t.tables.Load()
		e := s.family(!p.Src.Is4()).lookup(p, version)
		if t.horizon.Load() <= version {
			return e, version, s.number
		}
	}
}

// Get returns the eroute with exactly this selector, nil if there is none.
func (t *Table) Get(s klips.Selector) *Entry {
	s, err := checked(s)
	if err != nil {
		return nil
	}
	k := toKey(&s)
	for {
		version := t.version.Load()
		e := t.tables.Load().family(s.Is6()).get(&k).at(version)
		if t.horizon.Load() <= version {
			return e
		}
	}
}

// Add adds an eroute whose counter starts at e.Packets. EEXIST: there is one with its
// selector.
func (t *Table) Add(e klips.Eroute) error {
	_, _, err := t.put(e, func(old *Entry) bool { return old == nil })
	return err
}

// Replace adds an eroute whose counter starts at e.Packets. It replaces and returns the
// one with the same selector, if there is one. At every moment a packet finds one of
// the two.
func (t *Table) Replace(e klips.Eroute) (old *Entry, err error) {
	_, old, err = t.put(e, func(*Entry) bool { return true })
	return old, err
}

// Exchange is Replace on the condition that the present eroute is old, or that there is
// none if old is nil. It returns the new eroute, nil if the condition does not hold.
func (t *Table) Exchange(old *Entry, e klips.Eroute) *Entry {
	made, _, _ := t.put(e, func(o *Entry) bool { return o == old })
	return made
}

// put adds an eroute if mayGo allows to replace the one with its selector; old is nil
// if there is none. EEXIST: not allowed.
func (t *Table) put(e klips.Eroute, mayGo func(old *Entry) bool) (made, old *Entry, err error) {
	if e.Selector, err = checked(e.Selector); err != nil {
		return nil, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.tables.Load()
	f := s.family(e.Is6())
	k := toKey(&e.Selector)
	old = f.get(&k)
	if !mayGo(old) {
		return nil, nil, syscall.EEXIST
	}
	version := t.version.Load() + 1
	t.begun.Store(version)
	defer t.done.Store(version)
	n := newEntry(&e, k, version)
	s.also += len(n.Also()) - len(old.Also())
	if old == nil {
		f.insert(n)
		t.version.Store(version)
		return n, nil, nil
	}
	n.prev.Store(old)
	old.died.Store(version)
	f.replace(old, n)
	t.version.Store(version)
	t.horizon.Store(version)
	n.prev.Store(nil)
	return n, old, nil
}

// Delete removes the eroute with exactly this selector and returns it. ENOENT:
// there is none.
func (t *Table) Delete(s klips.Selector) (*Entry, error) {
	return t.remove(s, func(*Entry) bool { return true })
}

// Remove is Delete for an eroute that the caller holds. It returns false if the eroute
// is no longer in the table.
func (t *Table) Remove(e *Entry) bool {
	_, err := t.remove(e.Selector(), func(old *Entry) bool { return old == e })
	return err == nil
}

func (t *Table) remove(s klips.Selector, mayGo func(*Entry) bool) (*Entry, error) {
	s, err := checked(s)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.tables.Load()
	f := all.family(s.Is6())
	k := toKey(&s)
	old := f.get(&k)
	if old == nil || !mayGo(old) {
		return nil, syscall.ENOENT
	}
	all.also -= len(old.Also())
	version := t.version.Load() + 1
	t.begun.Store(version)
	defer t.done.Store(version)
	old.died.Store(version)
	t.version.Store(version)
	t.horizon.Store(version)
	f.remove(old)
	return old, nil
}

// Clear removes all eroutes and returns them in listing order.
func (t *Table) Clear() []*Entry {
	t.mu.Lock()
	// Lookups that have the old tables finish in them.
	old := t.tables.Load()
	t.tables.Store(newTables(old.number + 1))
	t.mu.Unlock()
	return sorted(old.list())
}

// All returns all eroutes in listing order (klips.CompareEroutes).
func (t *Table) All() []*Entry {
	t.mu.Lock()
	l := t.tables.Load().list()
	t.mu.Unlock()
	return sorted(l)
}

// After returns the n eroutes that follow a selector in listing order, fewer only at the
// end. The selector need not be that of an eroute; the zero Selector is before all.
func (t *Table) After(s klips.Selector, n int) []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := make([]*Entry, 0, min(t.tables.Load().len(), 2*n))
	after := toKey(&s)
	first := func() { l = sorted(l)[:min(len(l), n)] }
	// limit is the last of n eroutes that were found: those after it are not wanted.
	var limit *Entry
	for e := range t.tables.Load().all() {
		if s != (klips.Selector{}) && e.key.compare(&after) <= 0 ||
			limit != nil && e.key.compare(&limit.key) > 0 {
			continue
		}
		if l = append(l, e); len(l) >= 2*n {
			first()
			limit = l[n-1]
		}
	}
	first()
	return l
}

// ByAge returns all eroutes, the oldest first. A table to which they are added in this
// order gives every packet the same eroute.
func (t *Table) ByAge() []*Entry {
	t.mu.Lock()
	l := t.tables.Load().list()
	t.mu.Unlock()
	slices.SortFunc(l, func(a, b *Entry) int { return cmp.Compare(a.born, b.born) })
	return l
}

// Len returns the number of eroutes.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tables.Load().len()
}

// LenAlso returns the number of further SAs of all eroutes ([Entry.Also]).
func (t *Table) LenAlso() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tables.Load().also
}

func (s *tables) len() int { return s.four.entries.Len() + s.six.entries.Len() }

func (s *tables) list() []*Entry { return slices.AppendSeq(make([]*Entry, 0, s.len()), s.all()) }

// all yields every eroute, in no order.
func (s *tables) all() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, f := range [...]*family{&s.four, &s.six} {
			for e := range f.entries.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

func sorted(l []*Entry) []*Entry {
	slices.SortFunc(l, func(a, b *Entry) int { return a.key.compare(&b.key) })
	return l
}

// checked returns the selector without host bits, EINVAL if it is invalid.
func checked(s klips.Selector) (klips.Selector, error) {
	src, dst := s.Src.Addr(), s.Dst.Addr()
	if !s.Src.IsValid() || !s.Dst.IsValid() || src.Is4() != dst.Is4() || src.Is4In6() || dst.Is4In6() {
		return s, syscall.EINVAL
	}
	s.Src, s.Dst = s.Src.Masked(), s.Dst.Masked()
	return s, nil
}

package marks

import "encoding/binary"

// A table has the entries by key. Those of a file that was read are decoded when they are
// needed: a command of a stack without a process needs few of many. The zero table is
// empty.
type table struct {
	m map[Key]*entry // the entries that were needed

	// read is the contents of the file, or nil, and slots a hash table of the positions
	// of the newest marks in it, in records; 0: none. There are n.
	read  []byte
	slots []uint32
	n     int
	more  int // entries of m that are not in read
}

// newTable returns an empty table for the contents of a file.
func newTable(b []byte) table {
	size := 64
	for size < 2*len(b)/recordLen {
		size *= 2
	}
	return table{read: b, slots: make([]uint32, size)}
}

// slot returns where the position of a key is, or is to be entered.
func (t *table) slot(k Key) *uint32 {
	mask := uint64(len(t.slots) - 1)
	for i := binary.BigEndian.Uint64(k[:]); ; i++ { // the key is a hash
		s := &t.slots[i&mask]
		if *s == 0 || Key(t.read[int(*s)*recordLen:]) == k {
			return s
		}
	}
}

// enter enters the mark in the record at a position of the contents, in place of an
// earlier one. Position 0 is the header's.
func (t *table) enter(position int) {
	s := t.slot(Key(t.read[position*recordLen:]))
	if *s == 0 {
		t.n++
	}
	*s = uint32(position)
}

// get returns the entry of a key; nil for an unknown key.
func (t *table) get(k Key) *entry {
	if e := t.m[k]; e != nil || t.read == nil {
		return e
	}
	s := *t.slot(k)
	if s == 0 {
		return nil
	}
	return t.keep(k, decode(t.read[int(s)*recordLen:]))
}

func (t *table) keep(k Key, e *entry) *entry {
	if t.m == nil {
		t.m = map[Key]*entry{}
	}
	t.m[k] = e
	return e
}

// add adds the entry of an unknown key.
func (t *table) add(k Key, e *entry) {
	t.more++
	t.keep(k, e)
}

// len returns the number of entries.
func (t *table) len() int { return t.n + t.more }

// all returns all entries; changes of the map are those of the table.
func (t *table) all() map[Key]*entry {
	if t.m == nil {
		t.m = map[Key]*entry{}
	}
	for _, s := range t.slots {
		if s == 0 {
			continue
		}
		r := t.read[int(s)*recordLen:]
		if k := Key(r); t.m[k] == nil {
			t.m[k] = decode(r)
		}
	}
	t.read, t.slots, t.n, t.more = nil, nil, 0, len(t.m)
	return t.m
}

// remove removes an entry; all has been called.
func (t *table) remove(k Key) {
	delete(t.m, k)
	t.more = len(t.m)
}

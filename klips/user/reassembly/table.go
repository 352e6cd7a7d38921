package reassembly

import (
	"bytes"
	"container/list"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips/user/packet"
)

const (
	// Age is how long a datagram waits for its fragments after the first one arrived
	// (RFC 8200 section 4.5).
	Age = 60 * time.Second
	// maxFragments is the maximum number of fragments of a datagram: more than 65,535
	// bytes on links of 576 bytes need.
	maxFragments = 256
	// overhead is roughly the memory of a datagram besides its payload, in bytes.
	overhead = 512
)

// A Result is the result of adding a fragment.
type Result uint8

const (
	Waiting   Result = iota // other fragments are missing
	Whole                   // it completed the datagram
	Duplicate               // the same fragment has arrived before
	Bad                     // it is dropped, like all other fragments of its datagram
)

// A Table has the fragments of incomplete datagrams. To make room it drops the oldest
// datagram. One goroutine uses it at a time. Times are in nanoseconds of the caller's
// clock.
type Table struct {
	max   int // bytes
	used  int
	byKey map[key]*datagram
	byAge list.List // of *datagram, the oldest first
	lost  func(fragments int)
}

// New returns a table that uses at most max bytes. It calls lost with the number of
// fragments of each dropped datagram.
func New(max int, lost func(fragments int)) *Table {
	return &Table{max: max, byKey: map[key]*datagram{}, lost: lost}
}

// A key is the common fields of a datagram's fragments (RFC 791 section 3.2, RFC 8200
// section 4.5).
type key struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4 only
}

// A datagram is the received part of a datagram.
type datagram struct {
	key
	since   int64
	size    int    // its memory in the table, in bytes
	head    []byte // the first fragment's headers; nil: not yet received
	payload []byte // up to the highest received byte
	parts   []part // the ranges of the fragments in payload, ascending, without overlaps
	got     int    // number of received bytes of payload
	end     int    // length of the whole payload; 0: the last fragment is not yet received
	ecn     uint8  // bits 1<<field of all ECN fields seen
	bad     bool   // all its fragments are dropped
	age     *list.Element
}

// A part is a range of bytes of a payload: from is the first, to is after the last.
type part struct{ from, to int }

// Len returns the number of waiting fragments.
func (t *Table) Len() (n int) {
	for _, d := range t.byKey {
		n += len(d.parts)
	}
	return n
}

// Empty reports whether the table is empty.
func (t *Table) Empty() bool { return len(t.byKey) == 0 }

// Add adds the fragment in b with the header h. If it completes its datagram, b then
// holds the whole datagram, beginning at packet.Headroom; its array must have room for
// that, and for packet.Tailroom bytes after it. Otherwise the fragment is copied, and
// the caller still owns b.
func (t *Table) Add(b *packet.Buffer, h *packet.Header, now int64) Result {
	f, ok := parse(b.Bytes(), h)
	if !ok {
		return Bad
	}
	d := t.byKey[f.key]
	if d == nil {
		d = t.begin(f.key, now)
	}
	if d.bad {
		return Bad
	}
	switch d.place(&f) {
	case Bad:
		t.spoil(d)
		return Bad
	case Duplicate:
		return Duplicate
	}
	if !t.grow(d) {
		return Bad
	}
	if !d.complete() {
		return Waiting
	}
	t.remove(d)
	if !t.finish(b, d) {
		t.lost(len(d.parts) - 1)
		return Bad
	}
	return Whole
}

// Has reports whether the table has other fragments of the datagram of which p, with header
// h, is one.
func (t *Table) Has(p []byte, h *packet.Header) bool {
	k, ok := keyOf(p, h)
	return ok && t.byKey[k] != nil
}

// Expire drops the datagrams that have waited too long, and returns when the next one
// will have; 0: there is none.
func (t *Table) Expire(now int64) (next int64) {
	for e := t.byAge.Front(); e != nil; e = t.byAge.Front() {
		d := e.Value.(*datagram)
		if end := d.since + int64(Age); now < end {
			return end
		}
		t.giveUp(d)
	}
	return 0
}

// Clear drops all fragments.
func (t *Table) Clear() {
	for e := t.byAge.Front(); e != nil; e = t.byAge.Front() {
		t.giveUp(e.Value.(*datagram))
	}
}

func (t *Table) begin(k key, now int64) *datagram {
	d := &datagram{key: k, since: now}
	d.age = t.byAge.PushBack(d)
	t.byKey[k] = d
	return d
}

func (t *Table) remove(d *datagram) {
	t.used -= d.size
	delete(t.byKey, d.key)
	t.byAge.Remove(d.age)
}

func (t *Table) giveUp(d *datagram) {
	t.remove(d)
	if len(d.parts) > 0 {
		t.lost(len(d.parts))
	}
}

// spoil drops the received part of a datagram, and makes its later fragments be dropped
// (RFC 5722 section 4).
func (t *Table) spoil(d *datagram) {
	if len(d.parts) > 0 {
		t.lost(len(d.parts))
	}
	d.head, d.payload, d.parts, d.bad = nil, nil, nil, true
	t.grow(d)
}

// grow updates the memory of a datagram whose size has changed, and makes room. It
// returns false if the datagram itself was dropped, without its last fragment.
func (t *Table) grow(d *datagram) bool {
	size := overhead + cap(d.payload) + len(d.head)
	t.used += size - d.size
	d.size = size
	for t.used > t.max {
		old := t.byAge.Front().Value.(*datagram)
		if old == d && t.byAge.Len() > 1 {
			old = d.age.Next().Value.(*datagram) // the current one is in use
		}
		if old == d {
			d.parts = d.parts[:max(len(d.parts)-1, 0)]
			t.giveUp(d)
			return false
		}
		t.giveUp(old)
	}
	return true
}

// place adds a fragment to the payload, and returns Waiting on success. Overlapping
// fragments make the datagram bad (RFC 5722; RFC 8200 section 4.5), also of IPv4: no
// correct sender makes them. A repeated fragment does no harm.
func (d *datagram) place(f *fragment) Result {
	n := part{f.off, f.off + len(f.payload)}
	i := len(d.parts) // its position; most arrive in order
	for i > 0 && d.parts[i-1].from >= n.from {
		i--
	}
	switch {
	case d.end != 0 && (n.to > d.end || f.more == (n.to == d.end)), !f.more && n.to < len(d.payload):
		return Bad // its end contradicts another fragment
	case i < len(d.parts) && d.parts[i] == n && bytes.Equal(d.payload[n.from:n.to], f.payload):
		if f.more == (n.to == d.end) {
			return Bad
		}
		return Duplicate
	case i > 0 && d.parts[i-1].to > n.from, i < len(d.parts) && d.parts[i].from < n.to, len(d.parts) == maxFragments:
		return Bad
	}
	if n.from == 0 {
		d.head = bytes.Clone(f.head)
	}
	if !f.more {
		d.end = n.to
	}
	if more := n.to - len(d.payload); more > 0 {
		d.payload = append(d.payload, make([]byte, more)...)
	}
	d.got += copy(d.payload[n.from:], f.payload)
	d.parts = slices.Insert(d.parts, i, n)
	d.ecn |= 1 << f.ecn
	return Waiting
}

func (d *datagram) complete() bool { return d.end != 0 && d.got == d.end }

// finish writes the whole datagram into b. It returns false if the datagram is invalid.
func (t *Table) finish(b *packet.Buffer, d *datagram) bool {
	ecn, ok := d.joinECN()
	n := len(d.head) + d.end
	if !ok || n > math.MaxUint16 || packet.Headroom+n+packet.Tailroom > len(b.B) {
		return false
	}
	b.Off, b.End = packet.Headroom, packet.Headroom+n
	p := b.Bytes()
	copy(p[copy(p, d.head):], d.payload[:d.end])
	if p[0]>>4 == 4 {
		p[1] = p[1]&^3 | ecn
		p[6], p[7] = 0, 0
	} else {
		if n-40 > math.MaxUint16 {
			return false
		}
		p[1] = p[1]&^0x30 | ecn<<4
	}
	packet.SetTotal(p, n)
	packet.FixChecksum(p)
	return true
}

// ECN fields (RFC 3168 section 5).
const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
)

// joinECN returns the ECN field of the whole datagram. A congestion mark of one
// fragment marks the whole. A mark together with a fragment that cannot have one is
// invalid (RFC 3168 section 5.3).
func (d *datagram) joinECN() (ecn uint8, ok bool) {
	switch {
	case d.ecn&(1<<ce) != 0:
		return ce, d.ecn&(1<<notECT) == 0
	case d.ecn&(1<<notECT) != 0:
		return notECT, true
	case d.ecn&(1<<ect0) != 0:
		return ect0, true
	}
	return ect1, true
}

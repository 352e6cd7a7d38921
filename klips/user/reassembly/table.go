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
	// Age is how long a datagram waits for its fragments after the first that came
	// (RFC 8200 section 4.5).
	Age = 60 * time.Second
	// maxFragments is how many fragments a datagram may have: those of 65,535 bytes on
	// links of 576 bytes, and then some.
	maxFragments = 256
	// overhead is what a datagram takes besides its payload, in bytes, roughly.
	overhead = 512
)

// A Result is what has become of a fragment.
type Result uint8

const (
	Waiting   Result = iota // others are missing
	Whole                   // it was the last one that was missing
	Duplicate               // the same fragment is there already
	Bad                     // it goes no further, nor does what else there was of its datagram
)

// A Table has the fragments of datagrams that are not complete yet. Where there is no
// room for another one, it gives up the oldest datagram. One goroutine uses it at a time.
// Times are in nanoseconds of the caller's clock.
type Table struct {
	max   int // bytes
	used  int
	byKey map[key]*datagram
	byAge list.List // of *datagram, the oldest first
	lost  func(fragments int)
}

// New returns a table that takes max bytes at most. It calls lost with the number of
// fragments of each datagram that is given up.
func New(max int, lost func(fragments int)) *Table {
	return &Table{max: max, byKey: map[key]*datagram{}, lost: lost}
}

// A key is what the fragments of one datagram have in common (RFC 791 section 3.2, RFC
// 8200 section 4.5).
type key struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4 only
}

// A datagram is what is there of one.
type datagram struct {
	key
	since   int64
	size    int    // what it takes of the table, in bytes
	head    []byte // the first fragment's headers; nil: it is not there yet
	payload []byte // as far as the highest fragment that came
	parts   []part // where each fragment belongs in payload, in order; none overlaps another
	got     int    // how many bytes of payload are there
	end     int    // length of the whole payload; 0: the last fragment is not there yet
	ecn     uint8  // bits 1<<field of all ECN fields seen
	bad     bool   // all its fragments are dropped
	age     *list.Element
}

// A part is a range of bytes of a payload: from is the first, to the one behind the last.
type part struct{ from, to int }

// Len returns how many fragments wait for others.
func (t *Table) Len() (n int) {
	for _, d := range t.byKey {
		n += len(d.parts)
	}
	return n
}

// Empty reports whether nothing is kept.
func (t *Table) Empty() bool { return len(t.byKey) == 0 }

// Add takes the fragment in b, whose header is h. When it was the last one that was
// missing, b holds the whole datagram afterwards, beginning at packet.Headroom; its array
// must have room for that, and for packet.Tailroom bytes behind. Else the fragment is
// copied, and b is the caller's.
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

// Expire gives up the datagrams that have waited too long, and returns when the next one
// has; 0: nothing waits.
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

// Clear gives up all that waits.
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

// spoil drops what there is of a datagram, and has its other fragments dropped when they
// come (RFC 5722 section 4).
func (t *Table) spoil(d *datagram) {
	if len(d.parts) > 0 {
		t.lost(len(d.parts))
	}
	d.head, d.payload, d.parts, d.bad = nil, nil, nil, true
	t.grow(d)
}

// grow makes room for a datagram that has become larger, or smaller. false: it is given
// up itself, without its last fragment.
func (t *Table) grow(d *datagram) bool {
	size := overhead + cap(d.payload) + len(d.head)
	t.used += size - d.size
	d.size = size
	for t.used > t.max {
		old := t.byAge.Front().Value.(*datagram)
		if old == d && t.byAge.Len() > 1 {
			old = d.age.Next().Value.(*datagram) // the one at hand is of use now
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

// place puts a fragment where it belongs. It returns Waiting when it is in its place.
// Fragments that overlap make the datagram bad (RFC 5722; RFC 8200 section 4.5), of IPv4,
// too: nobody who means well sends them. The same fragment twice does no harm.
func (d *datagram) place(f *fragment) Result {
	n := part{f.off, f.off + len(f.payload)}
	i := len(d.parts) // where it belongs; most come in order
	for i > 0 && d.parts[i-1].from >= n.from {
		i--
	}
	switch {
	case d.end != 0 && (n.to > d.end || f.more == (n.to == d.end)), !f.more && n.to < len(d.payload):
		return Bad // it ends elsewhere than another one says
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

// finish writes the whole datagram into b. false: it has no valid form.
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

// joinECN is the ECN field of the whole. A mark that one fragment got is that of all; a
// mark beside a fragment that cannot have one has no valid form (RFC 3168 section 5.3).
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

package module

import (
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// An sa is a piece of the kernel's memory for an SA. When the SA is freed it becomes
// zeros, and the next SA gets it.
type sa struct {
	age  int  // how many SAs have been freed in it
	live bool // it is in the table

	id         klips.SAID
	next, prev link
	refs       int // references; at 0 the SA is freed
	ref        uint32
	refHim     uint32
	state      klips.State
	flags      uint32
	inbound    bool
	src        netip.Addr
	policy     [2]subnet // of tun SAs; source and destination
	auth, enc  uint8
	authBits   int // of the key
	encBits    int
	iv         []byte
	window     uint8
	life       life
	used       uint64 // time of the last packet, in KLIPS' seconds
	natt       klips.NATT
	outIf      string
	transport  bool
}

// A life is the five lifetimes of an SA. Times are in KLIPS' seconds.
type life struct{ alloc, bytes, add, use, packets counter }

type counter struct{ count, soft, hard uint64 }

// A link is a pointer from one SA to another. It remembers the SA at the time of
// linking, which the kernel cannot.
type link struct {
	to  *sa
	age int
}

func linkTo(p *sa) link { return link{p, p.age} }

// dangles reports whether the linked SA was freed.
func (l link) dangles() bool { return l.to != nil && l.to.age != l.age }

// refsFresh are the references to an SA: its creator, the saref table, the hash table.
// Links have none.
const refsFresh = 3

// buckets is the size of the hash table.
const buckets = 257

// bucket adds SPI and IPv4 destination, in network byte order but read as little-endian
// numbers, and the protocol. Of an IPv6 destination it reads the flow label, 0.
func bucket(id klips.SAID) int {
	word := func(b0, b1, b2, b3 byte) uint32 {
		return uint32(b0) | uint32(b1)<<8 | uint32(b2)<<16 | uint32(b3)<<24
	}
	spi := uint32(id.SPI)
	sum := word(byte(spi>>24), byte(spi>>16), byte(spi>>8), byte(spi)) + uint32(id.Proto)
	if id.Dst.Is4() {
		a := id.Dst.As4()
		sum += word(a[0], a[1], a[2], a[3])
	}
	return int(sum % buckets)
}

// alloc returns the memory freed last, or new memory.
func (m *Module) alloc() *sa {
	p := new(sa)
	if n := len(m.free); n > 0 {
		p, m.free = m.free[n-1], m.free[:n-1]
	}
	p.refs = refsFresh
	return p
}

// insert puts an SA at the front of its bucket.
func (m *Module) insert(p *sa) {
	p.live = true
	b := &m.buckets[bucket(p.id)]
	*b = slices.Insert(*b, 0, p)
}

// release removes an SA from the table and frees it, even if others point at it.
func (m *Module) release(p *sa) {
	b := &m.buckets[bucket(p.id)]
	*b = slices.DeleteFunc(*b, func(o *sa) bool { return o == p })
	*p = sa{age: p.age + 1}
	m.free = append(m.free, p)
}

// put drops a reference.
func (m *Module) put(p *sa) {
	if p.refs--; p.refs == 0 {
		m.release(p)
	}
}

func (m *Module) find(id klips.SAID) *sa {
	for _, p := range m.buckets[bucket(id)] {
		if p.id == id {
			return p
		}
	}
	return nil
}

// all returns the SAs in the order of the tables.
func (m *Module) all() (l []*sa) {
	for _, b := range m.buckets {
		l = append(l, b...)
	}
	return l
}

// Dangling returns the SAs that point at freed memory, which another SA may have now,
// in the order of the tables.
func (m *Module) Dangling() (ids []klips.SAID) {
	for _, p := range m.all() {
		if p.next.dangles() || p.prev.dangles() {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// flush frees all SAs, without regard to links.
func (m *Module) flush() {
	for _, id := range m.Dangling() {
		m.fault("use after free: flush while %v points at a freed SA", id)
	}
	for _, p := range m.all() {
		m.release(p)
	}
}

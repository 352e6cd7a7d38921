package eroute

import "github.com/klips-go/ipsec/klips/user/internal/hashtab"

// cacheSlots is how many flows a Cache remembers at most: as many as fit into the private
// caches of a processor core, beside other data. It is a power of two.
const cacheSlots = 1 << 11

// A Cache looks packets up in a Table, and remembers the eroutes of the latest flows. It
// returns what [Table.Lookup] would return: any change of the table invalidates all that it
// remembers. Only one goroutine may use it.
//
// In a large table a lookup waits for memory, once or more; for a flow that is remembered
// it reads one line that is near. A flow that is not costs some nanoseconds more than
// without a Cache.
type Cache struct {
	table *Table
	slots [cacheSlots]flow
}

// A flow is what packets of one flow have in common, and the result of a lookup. It has 64
// bytes.
type flow struct {
	src, dst addr
	rest     uint64 // family, protocol and ports, see Packet.rest; 0: the slot is empty
	version  uint64 // of the table, at which the result is right
	contents uint64 // see tables.number
	entry    *Entry // nil: no eroute matches
}

// NewCache returns an empty Cache for the table.
func (t *Table) NewCache() *Cache { return &Cache{table: t} }

// Lookup is [Table.Lookup].
func (c *Cache) Lookup(p *Packet) *Entry {
	if !p.isValid() {
		return nil
	}
	src, dst, rest := toAddr(p.Src), toAddr(p.Dst), p.rest()
	f := &c.slots[hashFlow(src, dst, rest)%cacheSlots]
	// The result is right if the table has had the same contents since the version was
	// current, and has it now: a version has one meaning only within the same contents.
	version := c.table.version.Load()
	if f.version == version && f.rest == rest && f.src == src && f.dst == dst && f.contents == c.table.tables.Load().number {
		return f.entry
	}
	e, version, contents := c.table.lookup(p)
	*f = flow{src, dst, rest, version, contents, e}
	return e
}

// Spread returns a number from 0 to n-1, the same one for all packets of a flow. Of many
// flows about as many have each number. n is at least 1 and below 2³². It allocates nothing.
func (p *Packet) Spread(n int) int {
	hash := hashFlow(toAddr(p.Src), toAddr(p.Dst), p.rest())
	return int(hash >> 32 * uint64(n) >> 32)
}

func hashFlow(src, dst addr, rest uint64) uint64 {
	return hashtab.Mix(hashtab.Mix(src.hi^src.lo, dst.hi)^dst.lo, rest)
}

func (p *Packet) isValid() bool { return p.Src.BitLen() == p.Dst.BitLen() && p.Src.IsValid() }

// rest returns what a packet is selected by beside its addresses, as a number that is not 0.
func (p *Packet) rest() uint64 {
	return uint64(p.Src.BitLen())<<40 | uint64(p.Proto)<<32 | uint64(p.SrcPort)<<16 | uint64(p.DstPort)
}

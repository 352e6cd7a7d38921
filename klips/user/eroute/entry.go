package eroute

import (
	"math"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
)

// An Entry is one eroute in a table. Its plain fields do not change; replacing
// an eroute makes a new Entry.
type Entry struct {
	key key // first, since lookups compare it

	klips.Selector
	ID  klips.SAID // the target: an SA, which need not exist, or a shunt
	PID int32      // of the process that made it

	IdentSrc, IdentDst *klips.Ident // kept for key daemons; may be nil

	Packets atomic.Uint64 // packets that selected it; counted by the caller
	LastUse atomic.Int64  // nanoseconds of the caller's clock

	// Data belongs to the caller, who synchronizes access to it.
	Data any

	born uint64                // number of the change that made it; also its age
	died atomic.Uint64         // number of the change that ended it
	prev atomic.Pointer[Entry] // the entry that it replaced, for lookups at older versions
}

func newEntry(e *klips.Eroute, k key, born uint64) *Entry {
	n := &Entry{
		key: k, Selector: e.Selector, ID: e.ID, PID: e.PID,
		IdentSrc: e.IdentSrc, IdentDst: e.IdentDst, born: born,
	}
	n.Packets.Store(e.Packets)
	n.died.Store(math.MaxUint64)
	return n
}

// at returns the entry that was in the place of e at a version, nil if there was none. e
// may be nil.
func (e *Entry) at(version uint64) *Entry {
	for e != nil && e.born > version {
		e = e.prev.Load()
	}
	if e == nil || e.died.Load() <= version {
		return nil
	}
	return e
}

// Eroute returns the entry as listings show it.
func (e *Entry) Eroute() klips.Eroute {
	return klips.Eroute{
		Selector: e.Selector, ID: e.ID, Packets: e.Packets.Load(), PID: e.PID,
		IdentSrc: e.IdentSrc, IdentDst: e.IdentDst,
	}
}

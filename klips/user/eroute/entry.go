package eroute

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
)

// An Entry is one eroute in a table. Its plain fields do not change; replacing
// an eroute makes a new Entry.
type Entry struct {
	key key

	ID  klips.SAID // the target: an SA, which need not exist, or a shunt
	PID int32      // of the process that made it

	rare *rare // nil: it has nothing of that

	Packets atomic.Uint64 // packets that selected it; counted by the caller
	LastUse atomic.Int64  // nanoseconds of the caller's clock

	// Data belongs to the caller, who synchronizes access to it.
	Data any

	born uint64                // number of the change that made it; also its age
	died atomic.Uint64         // number of the change that ended it
	prev atomic.Pointer[Entry] // the entry that it replaced, for lookups at older versions
}

// A rare has what few eroutes have: tables of a million others need no memory for it.
type rare struct {
	also               []klips.SAID
	identSrc, identDst *klips.Ident // kept for key daemons; may be nil
}

func newEntry(e *klips.Eroute, k key, born uint64) *Entry {
	n := &Entry{key: k, ID: e.ID, PID: e.PID, born: born}
	if len(e.Also) > 0 || e.IdentSrc != nil || e.IdentDst != nil {
		n.rare = &rare{slices.Clone(e.Also), e.IdentSrc, e.IdentDst}
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

// Also returns the further SAs over which its packets are spread ([klips.Eroute].Also). The
// list must not be changed. e may be nil.
func (e *Entry) Also() []klips.SAID {
	if e == nil || e.rare == nil {
		return nil
	}
	return e.rare.also
}

// Selector returns the selector of the eroute.
func (e *Entry) Selector() klips.Selector { return e.key.selector() }

// HasPorts reports whether the selector has a port.
func (e *Entry) HasPorts() bool { return e.key.kind()&(hasSrcPort|hasDstPort) != 0 }

// Eroute returns the eroute as listings show it.
func (e *Entry) Eroute() klips.Eroute {
	r := klips.Eroute{Selector: e.Selector(), ID: e.ID, Packets: e.Packets.Load(), PID: e.PID}
	if x := e.rare; x != nil {
		r.Also, r.IdentSrc, r.IdentDst = x.also, x.identSrc, x.identDst
	}
	return r
}

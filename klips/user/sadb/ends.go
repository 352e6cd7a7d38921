package sadb

import (
	"encoding/binary"
	"net/netip"

	"github.com/klips-go/ipsec/klips/user/internal/hashtab"
)

// A farEnd is the remote address of some SAs.
type farEnd struct {
	addr netip.Addr
	sas  int // number of SAs with it; guarded by DB.mu
}

// IsFarEnd reports whether an address is the remote one of an SA: the destination of an
// outbound SA, or the source of an inbound one that has a source. It neither locks nor
// allocates.
func (db *DB) IsFarEnd(a netip.Addr) bool { return db.findEnd(a, hashAddr(a, db.seed)) != nil }

// FarEnds returns the addresses for which IsFarEnd reports true, in no order.
func (db *DB) FarEnds() (l []netip.Addr) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for e := range db.ends.All() {
		l = append(l, e.addr)
	}
	return l
}

func (db *DB) findEnd(a netip.Addr, hash uint64) *farEnd {
	return db.ends.Find(hash, &a)
}

func hashAddr(a netip.Addr, seed uint64) uint64 {
	b := a.As16()
	return hashtab.Mix(binary.LittleEndian.Uint64(b[8:])^seed, binary.LittleEndian.Uint64(b[:8]))
}

// farEnd returns the SA's remote address; it is invalid if the SA has none.
func (sa *SA) farEnd() netip.Addr {
	switch {
	case sa.Dir.Sends():
		return sa.ID.Dst
	case sa.Src.IsUnspecified():
		return netip.Addr{}
	}
	return sa.Src
}

// countEndLocked counts an SA that was added (by = 1) or removed (by = -1).
func (db *DB) countEndLocked(sa *SA, by int) {
	a := sa.farEnd()
	if !a.IsValid() {
		return
	}
	hash := hashAddr(a, db.seed)
	e := db.findEnd(a, hash)
	if e == nil {
		e = &farEnd{addr: a}
		db.ends.Insert(hash, a, e)
	}
	if e.sas += by; e.sas == 0 {
		db.ends.Remove(hash, e)
	}
}

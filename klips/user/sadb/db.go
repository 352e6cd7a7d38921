package sadb

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/user/internal/hashtab"
	"github.com/klips-go/ipsec/klips/user/replay"
)

// A DB is a set of SAs. Use New to make one. All methods may be called from
// several goroutines.
//
// Errors are syscall.Errno values, some wrapped with a reason: use errors.Is or
// errors.As.
type DB struct {
	seed  uint64
	table hashtab.Table[klips.SAID, SA]

	mu      sync.Mutex // held during every change
	refs    refs
	order   uint64
	listing listing
	keys    *keyuse.Index // of all SAs in the table

	ends hashtab.Table[netip.Addr, farEnd]
}

// New returns an empty DB.
func New() *DB {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return &DB{seed: binary.LittleEndian.Uint64(b[:]), keys: keyuse.New()}
}

// Lookup returns the SA with a SAID, nil if there is none. It neither locks nor
// allocates.
func (db *DB) Lookup(id klips.SAID) *SA {
	return db.find(id, hashID(id, db.seed))
}

func (db *DB) find(id klips.SAID, hash uint64) *SA {
	return db.table.Find(hash, &id)
}

// hashID hashes a SAID. The seed prevents a peer that chooses SPIs from choosing
// collisions.
func hashID(id klips.SAID, seed uint64) uint64 {
	a := id.Dst.As16()
	h := hashtab.Mix(binary.LittleEndian.Uint64(a[8:])^seed, uint64(id.SPI)<<8|uint64(id.Proto))
	return hashtab.Mix(h, binary.LittleEndian.Uint64(a[:8]))
}

// Get is Lookup with an error for commands: ESRCH if there is none.
func (db *DB) Get(id klips.SAID) (*SA, error) {
	if sa := db.Lookup(id); sa != nil {
		return sa, nil
	}
	return nil, syscall.ESRCH
}

// Len returns the number of SAs.
func (db *DB) Len() int {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.table.Len()
}

// Add makes an SA. now is in nanoseconds of the caller's clock; [SA.Count] and the
// other methods must get times of the same clock. Add copies the keys. Before the SA
// can be found, it calls init, which may be nil; init may use the SA, but must not
// change the DB. An error of init is returned.
//
// EEXIST: the SAID is in use. EINVAL: the SPI is reserved, the protocol is int or
// unknown, the window is too large, the SAref is in use, or algorithms and keys do not
// go together. EPROTO: the cipher is unknown. EKEYREJECTED: a *klips.OpError with
// klips.FaultKeyUsed.
func (db *DB) Add(spec *klips.SASpec, dir klips.Direction, now int64, init func(*SA) error) (*SA, error) {
	if err := spec.CheckName(); err != nil {
		return nil, err
	}
	hash := hashID(spec.ID, db.seed)
	db.mu.Lock()
	defer db.mu.Unlock()
	// KLIPS returns EEXIST before it checks the algorithms.
	if db.find(spec.ID, hash) != nil {
		return nil, syscall.EEXIST
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	tag := db.tag(spec)
	if err := db.checkKeyLocked(spec, tag, dir); err != nil {
		return nil, err
	}
	ref := spec.Ref
	if ref == 0 {
		ref = db.refs.take()
	} else if !db.refs.claim(ref) {
		return nil, klips.Invalidf("SAref %d is in use", ref)
	}

	sa := db.newSA(spec, Fixed{
		Dir: dir, NATT: spec.NATT, OutIf: spec.OutIf, Ref: ref, RefHim: spec.RefHim, Added: now,
	})
	sa.tag = tag
	return db.enterLocked(sa, init)
}

// enterLocked enters a new SA into the table after init, which may be nil. If init
// fails, the SA is removed and its SAref is free.
func (db *DB) enterLocked(sa *SA, init func(*SA) error) (*SA, error) {
	if init != nil {
		if err := init(sa); err != nil {
			sa.kill()
			db.refs.free(sa.Ref)
			return nil, err
		}
	}
	db.insertLocked(sa)
	return sa, nil
}

// newSA makes a mature SA with algorithms, keys and limits of spec, and the rest from
// f.
func (db *DB) newSA(spec *klips.SASpec, f Fixed) *SA {
	f.ID, f.Src, f.Transform = spec.ID, spec.Src, spec.Transform
	f.ESN, f.Align8, f.CopyTOS = spec.ESN, spec.Align8, spec.CopyTOS
	f.Soft, f.Hard = clip(spec.Soft, spec.Hard), spec.Hard
	f.AuthKeyBits, f.EncKeyBits = len(spec.AuthKey)*8, len(spec.EncKey)*8
	sa := &SA{
		Fixed: f,
		Live:  &Live{Sent: newSent(), Replay: new(replay.Window), authKey: bytes.Clone(spec.AuthKey), encKey: bytes.Clone(spec.EncKey)},
		hash:  hashID(spec.ID, db.seed),
	}
	sa.self[0] = sa
	sa.state.Store(uint32(klips.Mature))
	sa.Replay.Init(spec.Window)
	if spec.Seq != nil {
		sa.Seq.Store(*spec.Seq)
	}
	if spec.ReplaySeq != nil {
		sa.Replay.Resume(*spec.ReplaySeq)
	}
	if n := sa.ivLen(); n > 0 {
		rand.Read(sa.iv[:min(n, len(sa.iv))])
	}
	return sa
}

func (db *DB) insertLocked(sa *SA) {
	db.order++
	sa.order = db.order
	db.table.Insert(sa.hash, sa.ID, sa)
	db.listing.push(sa)
	db.keys.Add(sa.tag, sa.ID, sa.Dir)
	db.countEndLocked(sa, 1)
}

// Delete removes an SA and all members of its group, and returns them in processing
// order. They are then dead and have no keys. ESRCH: there is no such SA.
func (db *DB) Delete(id klips.SAID) ([]*SA, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	sa := db.Lookup(id)
	if sa == nil {
		return nil, syscall.ESRCH
	}
	return db.deleteLocked(sa), nil
}

// DeleteSA is Delete for an SA that the caller holds: a newer SA with the same SAID
// stays. Of several callers one gets the group, the others ESRCH; so an expiry is
// reported once.
func (db *DB) DeleteSA(sa *SA) ([]*SA, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.Lookup(sa.ID) != sa {
		return nil, syscall.ESRCH
	}
	return db.deleteLocked(sa), nil
}

func (db *DB) deleteLocked(sa *SA) []*SA {
	group := slices.Clone(sa.members())
	// All must be dead before the first is removed from the table.
	for _, m := range group {
		m.kill()
	}
	for _, m := range group {
		db.table.Remove(m.hash, m)
		db.listing.remove(m)
		db.keys.Remove(m.tag, m.ID)
		db.countEndLocked(m, -1)
		db.refs.free(m.Ref)
	}
	return group
}

// Flush removes all SAs and returns them in listing order. They are then dead and have
// no keys.
func (db *DB) Flush() []*SA {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.clearLocked()
}

// clearLocked is Flush.
func (db *DB) clearLocked() []*SA {
	list := db.listLocked()
	for _, sa := range list {
		sa.kill()
		db.refs.free(sa.Ref)
	}
	db.table.Clear()
	db.listing.clear()
	db.keys.Clear()
	db.ends.Clear()
	return list
}

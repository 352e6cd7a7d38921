package sadb

import (
	"crypto/subtle"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// randomTries is how many random SPIs are tried before all are tried in order.
const randomTries = 16

// Reserve makes a larval SA with destination and protocol of id, and a random free SPI
// from low to high. It carries no packets until [DB.Update] makes it usable. The other
// arguments are those of [DB.Add].
//
// EEXIST: no SPI is free, or all are reserved. EINVAL: the range is empty, or an SA
// cannot have this destination and protocol.
func (db *DB) Reserve(id klips.SAID, src netip.Addr, low, high klips.SPI, dir klips.Direction, now int64, init func(*SA) error) (*SA, error) {
	if low > high {
		return nil, klips.Invalidf("SPIs from 0x%x down to 0x%x", uint32(low), uint32(high))
	}
	if id.Proto == klips.ProtoComp {
		high = min(high, 0xffff) // IPComp headers have room for 16 bits
	}
	if low < klips.MinSPI || low > high {
		return nil, syscall.EEXIST
	}
	id.SPI = low
	spec := &klips.SASpec{ID: id, Src: src}
	if err := spec.CheckName(); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	spi, ok := db.freeSPILocked(id, low, high)
	if !ok {
		return nil, syscall.EEXIST
	}
	spec.ID.SPI = spi
	ref := db.refs.take()
	sa := db.newSA(spec, Fixed{Dir: dir, Ref: ref, Added: now})
	sa.state.Store(uint32(klips.Larval))
	return db.enterLocked(sa, init)
}

// freeSPILocked finds an SPI that no SA with id's destination and protocol has.
func (db *DB) freeSPILocked(id klips.SAID, low, high klips.SPI) (klips.SPI, bool) {
	n := uint64(high-low) + 1
	free := func(offset uint64) bool {
		id.SPI = low + klips.SPI(offset)
		return db.Lookup(id) == nil
	}
	for range randomTries {
		if free(rand.Uint64N(n)) {
			return id.SPI, true
		}
	}
	// Among one more SPI than there are SAs, at least one is free.
	start := rand.Uint64N(n)
	for i := range min(n, uint64(db.table.Len())+1) {
		if free((start + i) % n) {
			return id.SPI, true
		}
	}
	return 0, false
}

// Update gives the SA with the SAID of spec new algorithms, keys, limits, window and
// source, and makes it mature. The SA keeps its creation time, its place in the listing
// and in its group, its inbound policy, UDP encapsulation, device and SArefs; it keeps
// its direction only while it is in a group. Counters start from 0. If the keys stay
// the same, the SA continues its sequence numbers, so that none is sent twice and none
// is accepted twice.
//
// A packet finds the old SA or the new one, each with its own keys. Update also returns
// the old SA, which is unchanged for packets in progress; when they are done, call
// [SA.Retire]. init is as for [DB.Add].
//
// ENOENT: there is no such SA. EINVAL, EPROTO, EKEYREJECTED: as for Add; but an SA may
// keep its key, and spec must not contain sequence numbers.
func (db *DB) Update(spec *klips.SASpec, dir klips.Direction, init func(*SA) error) (old, sa *SA, err error) {
	if err := spec.CheckName(); err != nil {
		return nil, nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	old = db.Lookup(spec.ID)
	switch {
	case old == nil:
		return nil, nil, syscall.ENOENT
	case spec.Seq != nil || spec.ReplaySeq != nil:
		return nil, nil, klips.Invalidf("sequence numbers for an SA that exists")
	}
	if err := spec.Check(); err != nil {
		return nil, nil, err
	}
	f := old.Fixed
	f.Data = nil
	if old.place.Load() == nil {
		f.Dir = dir
	}
	tag := db.tag(spec)
	if old.Dir != f.Dir || old.tag != tag {
		if err := db.checkKeyLocked(spec, tag, f.Dir); err != nil {
			return nil, nil, err
		}
	}
	sa = db.newSA(spec, f)
	sa.tag = tag
	if old.sameKeys(sa) {
		sa.continueFrom(old)
	}
	sa.policy.Store(old.policy.Load())
	if init != nil {
		if err := init(sa); err != nil {
			sa.kill()
			return nil, nil, err
		}
	}
	db.replaceLocked(old, sa)
	return old, sa, nil
}

// sameKeys reports whether two SAs protect packets in the same way.
func (sa *SA) sameKeys(o *SA) bool {
	if sa.Transform != o.Transform || sa.ESN != o.ESN {
		return false
	}
	sa.keyMu.Lock()
	defer sa.keyMu.Unlock()
	return len(sa.authKey)+len(sa.encKey) > 0 &&
		subtle.ConstantTimeCompare(sa.authKey, o.authKey) == 1 &&
		subtle.ConstantTimeCompare(sa.encKey, o.encKey) == 1
}

// continueFrom makes a new SA continue the sequence numbers of an old one.
func (sa *SA) continueFrom(old *SA) {
	size := sa.Replay.Size()
	sa.Sent = old.Sent // shared, as the old SA may still send a packet in progress
	if size == old.Replay.Size() {
		sa.Replay = old.Replay
		return
	}
	// A window of another size cannot take over which numbers have been received. It
	// counts all as received, so that none is accepted twice.
	sa.Replay.Resume(old.Replay.Last())
}

// SetPorts changes only the UDP ports of an SA. It returns the old SA and the new one,
// which share counters, keys and state. ENOENT: there is no such SA.
func (db *DB) SetPorts(id klips.SAID, sport, dport uint16) (old, sa *SA, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	old = db.Lookup(id)
	if old == nil {
		return nil, nil, syscall.ENOENT
	}
	sa = &SA{Fixed: old.Fixed, Live: old.Live, hash: old.hash, tag: old.tag}
	sa.NATT.SPort, sa.NATT.DPort = sport, dport
	sa.self[0] = sa
	db.replaceLocked(old, sa)
	return old, sa, nil
}

// replaceLocked replaces an SA by another with the same SAID.
func (db *DB) replaceLocked(old, sa *SA) {
	sa.order = old.order
	if p := old.place.Load(); p != nil {
		members := slices.Clone(p.members)
		members[p.pos] = sa
		publish(members)
	}
	db.table.Replace(sa.hash, old, sa)
	db.listing.replace(old, sa)
	db.keys.Remove(old.tag, old.ID)
	db.keys.Add(sa.tag, sa.ID, sa.Dir)
	db.countEndLocked(sa, 1) // first, so that a remaining far end is never missing
	db.countEndLocked(old, -1)
}

// Retire makes unusable an SA that [DB.Update] returned as the old one, and overwrites
// its keys.
func (sa *SA) Retire() { sa.kill() }

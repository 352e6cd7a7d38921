package sadb

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/user/replay"
)

// A Saved is the complete state of an SA, except for its group.
type Saved struct {
	klips.SASpec // with keys of its own

	Dir   klips.Direction
	State klips.State // not Dead
	IV    []byte      // as [SA.IV]

	// Nanoseconds of the caller's clock.
	Added, FirstUse, LastUse int64

	Bytes, Packets                          uint64
	Uncompressed, Compressed                uint64
	AuthErrs, ReplayErrs, SizeErrs, PadErrs uint32
	BelowMark, SeqWaits                     uint32
	Drops                                   drop.Counts
	Policy                                  *klips.InboundPolicy

	Seq    uint64
	Replay replay.Saved

	Began, Remembered uint64 // as in [Fixed]

	KeyRank int // number of SAs that have had its key for longer
}

// A SavedDB is the complete state of a DB.
type SavedDB struct {
	SAs     []Saved // in the order of their creation
	Groups  [][]int // indexes into SAs, each group in processing order
	LastRef uint32  // the SAref allocated last
}

// Clear overwrites the keys.
func (s *SavedDB) Clear() {
	for i := range s.SAs {
		s.SAs[i].ClearKeys()
	}
}

// Save returns the complete state of the SAs. No packet may be in progress. The keys
// are copies; the caller clears them.
func (db *DB) Save() *SavedDB {
	db.mu.Lock()
	defer db.mu.Unlock()
	list := db.listLocked()
	slices.SortFunc(list, func(a, b *SA) int { return cmp.Compare(a.order, b.order) })
	s := &SavedDB{LastRef: db.refs.last}
	places := map[*SA]int{}
	for _, sa := range list {
		saved, ok := sa.save()
		if !ok {
			continue // it died just now
		}
		saved.KeyRank = db.keys.Rank(sa.tag, sa.ID)
		places[sa] = len(s.SAs)
		s.SAs = append(s.SAs, saved)
	}
	for _, sa := range list {
		members, head := sa.Snapshot()
		if !head || len(members) < 2 {
			continue
		}
		var group []int
		for _, m := range members {
			if at, ok := places[m]; ok {
				group = append(group, at)
			}
		}
		s.Groups = append(s.Groups, group)
	}
	return s
}

// spec returns the parameters that the SA was made with, without keys.
func (sa *SA) spec() klips.SASpec {
	return klips.SASpec{
		ID: sa.ID, Src: sa.Src, Transform: sa.Transform, Window: sa.Replay.Size(), ESN: sa.ESN, Align8: sa.Align8, CopyTOS: sa.CopyTOS,
		Soft: sa.Soft, Hard: sa.Hard, NATT: sa.NATT, OutIf: sa.OutIf, Ref: sa.Ref, RefHim: sa.RefHim,
	}
}

// IsOf reports whether spec would make this SA, apart from SArefs and sequence numbers.
// It is false for a dead SA.
func (sa *SA) IsOf(spec *klips.SASpec) bool {
	s := sa.spec()
	same := s.ID == spec.ID && s.Src == spec.Src && s.Transform == spec.Transform && s.Window == spec.Window && s.ESN == spec.ESN && s.Align8 == spec.Align8 && s.CopyTOS == spec.CopyTOS &&
		s.Soft == spec.Soft && s.Hard == spec.Hard && s.NATT == spec.NATT && s.OutIf == spec.OutIf
	return sa.Keys(func(auth, enc []byte) {
		same = same && bytes.Equal(auth, spec.AuthKey) && bytes.Equal(enc, spec.EncKey)
	}) && same
}

func (sa *SA) save() (s Saved, ok bool) {
	s = Saved{
		SASpec: sa.spec(),
		Dir:    sa.Dir, State: sa.State(), IV: sa.IV(),
		Added: sa.Added, FirstUse: sa.FirstUse.Load(), LastUse: sa.LastUse.Load(),
		Bytes: sa.Bytes.Load(), Packets: sa.Packets.Load(),
		Uncompressed: sa.Uncompressed.Load(), Compressed: sa.Compressed.Load(),
		AuthErrs: sa.AuthErrs.Load(), ReplayErrs: sa.ReplayErrs.Load(), SizeErrs: sa.SizeErrs.Load(), PadErrs: sa.PadErrs.Load(),
		BelowMark: sa.BelowMark.Load(), SeqWaits: sa.SeqWaits.Load(), Drops: sa.Drops.Read(),
		Policy: sa.Policy(), Seq: sa.Seq.Load(), Replay: sa.Replay.Save(), Began: sa.Began, Remembered: sa.Remembered,
	}
	ok = sa.Keys(func(auth, enc []byte) { s.AuthKey, s.EncKey = slices.Clone(auth), slices.Clone(enc) })
	return s, ok
}

// Restore makes the saved SAs in this DB, which must be empty. It copies the keys. init
// is called for each SA, as in [DB.Add]. An error means that s was not saved from a DB;
// the DB is then empty.
func (db *DB) Restore(s *SavedDB, init func(*SA) error) (sas []*SA, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	defer func() {
		if err != nil {
			db.clearLocked()
			sas = nil
		}
	}()
	for i := range s.SAs {
		sa, err := db.restoreLocked(&s.SAs[i], init)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", s.SAs[i].ID, err)
		}
		sas = append(sas, sa)
	}
	db.refs.last = s.LastRef
	db.restoreKeysLocked(s, sas)
	grouped := map[int]bool{}
	for _, g := range s.Groups {
		var chain []*SA
		for _, at := range g {
			if at < 0 || at >= len(sas) || grouped[at] {
				return nil, klips.Invalidf("a group has SA %d of %d", at, len(sas))
			}
			grouped[at] = true
			chain = append(chain, sas[at])
		}
		if len(chain) > 1 {
			publish(chain)
		}
	}
	return sas, nil
}

// restoreKeysLocked restores the order of the SAs that share a key.
func (db *DB) restoreKeysLocked(s *SavedDB, sas []*SA) {
	order := make([]int, len(sas))
	for i := range order {
		order[i] = i
	}
	arrange.Stable(order, func(a, b int) int { return cmp.Compare(s.SAs[a].KeyRank, s.SAs[b].KeyRank) })
	db.keys.Clear()
	for _, i := range order {
		db.keys.Add(sas[i].tag, sas[i].ID, sas[i].Dir)
	}
}

func (db *DB) restoreLocked(s *Saved, init func(*SA) error) (*SA, error) {
	if err := s.CheckName(); err != nil {
		return nil, err
	}
	if db.Lookup(s.ID) != nil {
		return nil, klips.Invalidf("there are two of this name")
	}
	switch s.State {
	case klips.Larval:
	case klips.Mature, klips.Dying:
		if err := s.Check(); err != nil {
			return nil, err
		}
	default:
		return nil, klips.Invalidf("it is in state %v", s.State)
	}
	if s.Replay.Size != s.Window {
		return nil, klips.Invalidf("windows of %d and %d packets", s.Window, s.Replay.Size)
	}
	if !db.refs.claim(s.Ref) {
		return nil, klips.Invalidf("SAref %d is in use", s.Ref)
	}
	sa := db.newSA(&s.SASpec, Fixed{
		Dir: s.Dir, NATT: s.NATT, OutIf: s.OutIf, Ref: s.Ref, RefHim: s.RefHim, Added: s.Added,
		Began: s.Began, Remembered: s.Remembered,
	})
	sa.tag = db.tag(&s.SASpec)
	sa.state.Store(uint32(s.State))
	copy(sa.iv[:], s.IV)
	sa.FirstUse.Store(s.FirstUse)
	sa.LastUse.Store(s.LastUse)
	sa.Bytes.Store(s.Bytes)
	sa.Packets.Store(s.Packets)
	sa.Uncompressed.Store(s.Uncompressed)
	sa.Compressed.Store(s.Compressed)
	sa.AuthErrs.Store(s.AuthErrs)
	sa.ReplayErrs.Store(s.ReplayErrs)
	sa.SizeErrs.Store(s.SizeErrs)
	sa.PadErrs.Store(s.PadErrs)
	sa.BelowMark.Store(s.BelowMark)
	sa.SeqWaits.Store(s.SeqWaits)
	sa.Drops.Restore(s.Drops)
	sa.policy.Store(s.Policy)
	sa.Seq.Store(s.Seq)
	if !sa.Replay.Restore(s.Replay) {
		sa.kill()
		db.refs.free(s.Ref)
		return nil, klips.Invalidf("its replay window is not whole")
	}
	return db.enterLocked(sa, init)
}

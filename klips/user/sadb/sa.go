package sadb

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/user/replay"
)

// An SA is one security association: what it is, what becomes of it, and where
// it stands. The zero SA is of no use: [DB.Add] and [DB.Reserve] make them.
//
// An SA that is changed ([DB.Update], [DB.SetPorts]) is another SA in the same
// place; the two may have parts in common.
type SA struct {
	Fixed
	*Live

	place atomic.Pointer[place] // nil: in no group
	self  [1]*SA                // the chain of an SA in no group
	hash  uint64                // of ID
	order uint64                // ascending in the order of adding
	tag   keyuse.Tag            // of the key, see DB.keys
}

// Fixed is what does not change once an SA can be found.
type Fixed struct {
	ID        klips.SAID
	Src       netip.Addr // source of the outer header; unspecified or invalid: not checked
	Transform klips.Transform
	Dir       klips.Direction
	NATT      klips.NATT
	OutIf     uint16
	Ref       uint32 // unique among the SAs that exist
	RefHim    uint32
	ESN       bool // sequence numbers have 64 bits

	Soft, Hard  klips.Limits // soft limits are never above hard ones
	AuthKeyBits int
	EncKeyBits  int
	Added       int64 // when it was made, in nanoseconds of the caller's clock
	// Began is the number that earlier SAs with this key may have sent up to, where it is
	// known; else 0.
	Began uint64
	// Remembered is the number up to which an earlier SA with this key has received,
	// where the window began with it; else 0.
	Remembered uint64

	// Data belongs to the caller; the init function of [DB.Add] may set it.
	Data any
}

// Live is what changes while an SA is used. What is not atomic is behind a lock.
type Live struct {
	// SAs with one key have one Sent, and one window where it has one size.
	*Sent
	Replay *replay.Window

	Bytes    atomic.Uint64
	Packets  atomic.Uint64
	FirstUse atomic.Int64 // nanoseconds of the caller's clock, 0 before the first packet
	LastUse  atomic.Int64

	// Uncompressed and Compressed are the byte totals of a comp SA.
	Uncompressed atomic.Uint64
	Compressed   atomic.Uint64

	AuthErrs   atomic.Uint32
	ReplayErrs atomic.Uint32
	BelowMark  atomic.Uint32 // those of ReplayErrs that Remembered is the cause of
	SeqWaits   atomic.Uint32 // packets not sent, as their numbers were not reserved yet
	SizeErrs   atomic.Uint32
	PadErrs    atomic.Uint32

	Drops drop.Counters // packets whose way it ended, by reason

	iv     [16]byte      // the IV to begin with, as long as IV says; never changed
	state  atomic.Uint32 // a klips.State
	policy atomic.Pointer[klips.InboundPolicy]

	keyMu   sync.Mutex
	authKey []byte
	encKey  []byte
}

// A place is where an SA stands in a group. It is immutable.
type place struct {
	members []*SA // the whole group in processing order
	pos     int
}

// State returns the SA's state: Mature, Dying or Dead.
func (sa *SA) State() klips.State { return klips.State(sa.state.Load()) }

// SetDying marks the SA as one whose soft lifetime has passed. It reports
// whether this call did it: of several callers one is told true.
func (sa *SA) SetDying() bool {
	return sa.state.CompareAndSwap(uint32(klips.Mature), uint32(klips.Dying))
}

// Snapshot returns the SAs that a packet for this one goes through, this one
// first, and whether no SA of the group comes before it. The two belong
// together; calling Chain and IsHead may give answers from before and after a
// change. The slice is shared and must not be written to.
func (sa *SA) Snapshot() (chain []*SA, head bool) {
	if p := sa.place.Load(); p != nil {
		return p.members[p.pos:], p.pos == 0
	}
	return sa.self[:], true
}

// Chain returns this SA and those after it in processing order: inner to outer
// for outbound SAs, outer to inner for inbound ones. The slice is an immutable
// snapshot and must not be written to.
func (sa *SA) Chain() []*SA {
	chain, _ := sa.Snapshot()
	return chain
}

// IsHead reports whether no SA of the group comes before this one.
func (sa *SA) IsHead() bool {
	_, head := sa.Snapshot()
	return head
}

// members returns the whole group, just the SA where it is in none.
func (sa *SA) members() []*SA {
	if p := sa.place.Load(); p != nil {
		return p.members
	}
	return sa.self[:]
}

// Policy returns the inbound policy, nil where none was set.
func (sa *SA) Policy() *klips.InboundPolicy { return sa.policy.Load() }

// Keys calls f with the SA's keys and reports whether the SA still had them: it
// has none once it is dead. f must neither keep nor change them, nor call methods
// of the DB that change it. Calls for one SA run one at a time and not while the
// keys are being cleared.
func (sa *SA) Keys(f func(auth, enc []byte)) bool {
	sa.keyMu.Lock()
	defer sa.keyMu.Unlock()
	if sa.State() == klips.Dead {
		return false
	}
	f(sa.authKey, sa.encKey)
	return true
}

// kill makes the SA unusable and overwrites its keys.
func (sa *SA) kill() {
	sa.state.Store(uint32(klips.Dead))
	sa.keyMu.Lock()
	defer sa.keyMu.Unlock()
	clear(sa.authKey)
	clear(sa.encKey)
	sa.authKey, sa.encKey = nil, nil
}

// ivLen returns the length in bytes of the IV that listings show: that of CBC
// ciphers.
func (sa *SA) ivLen() int {
	info, ok := sa.Transform.Enc.Info()
	if !ok || info.AEAD || sa.ID.Proto != klips.ProtoESP {
		return 0
	}
	return info.IV
}

// IV returns a copy of the random IV that the SA was made with, nil where the
// cipher is not in CBC mode. Listings show it before the first packet.
func (sa *SA) IV() []byte {
	n := sa.ivLen()
	if n == 0 {
		return nil
	}
	return bytes.Clone(sa.iv[:min(n, len(sa.iv))])
}

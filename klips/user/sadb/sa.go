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

// An SA is one security association: its fixed parameters, its live state, and its
// place in a group. [DB.Add] and [DB.Reserve] make SAs; the zero value is not usable.
//
// A change ([DB.Update], [DB.SetPorts]) makes a new SA in the same place; the two may
// share parts.
type SA struct {
	Fixed
	*Live

	place atomic.Pointer[place] // nil: in no group
	self  [1]*SA                // the chain of an SA without a group
	hash  uint64                // of ID
	order uint64                // ascending in the order of adding
	link  link                  // the SAs beside it in the listing
	tag   keyuse.Tag            // of the key, see DB.keys
}

// Fixed holds the fields that do not change once an SA is in the table.
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
	Align8    bool // AH headers over IPv4 are padded to 8 bytes
	CopyTOS   bool // outer headers have the TOS of the packet inside

	Soft, Hard  klips.Limits // soft limits are never above hard ones
	AuthKeyBits int
	EncKeyBits  int
	Added       int64 // creation time, in nanoseconds of the caller's clock
	// Began is the number up to which earlier SAs with this key may have sent, 0 if
	// unknown.
	Began uint64
	// Remembered is the number up to which an earlier SA with this key has received, if
	// the window began with it; else 0.
	Remembered uint64

	// Data belongs to the caller; the init function of [DB.Add] may set it.
	Data any
}

// Live holds the fields that change while an SA is used. They are atomic or behind a
// lock.
type Live struct {
	// SAs with the same key share Sent, and the window if its size is the same.
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
	BelowMark  atomic.Uint32 // those of ReplayErrs caused by Remembered
	SeqWaits   atomic.Uint32 // packets not sent because their numbers were not reserved yet
	SizeErrs   atomic.Uint32
	PadErrs    atomic.Uint32

	Drops drop.Counters // dropped packets, by reason

	iv     [16]byte      // the first IV, as long as IV returns; never changed
	state  atomic.Uint32 // a klips.State
	policy atomic.Pointer[klips.InboundPolicy]

	keyMu   sync.Mutex
	authKey []byte
	encKey  []byte
}

// A place is an SA's place in a group. It is immutable.
type place struct {
	members []*SA // the whole group in processing order
	pos     int
	// received are the members of a group for both directions, outermost first; nil: the
	// group is for one direction.
	received []*SA
}

// State returns the SA's state: Mature, Dying or Dead.
func (sa *SA) State() klips.State { return klips.State(sa.state.Load()) }

// SetDying marks that the SA's soft lifetime has passed. Of several callers one gets
// true.
func (sa *SA) SetDying() bool {
	return sa.state.CompareAndSwap(uint32(klips.Mature), uint32(klips.Dying))
}

// Snapshot returns the SAs that a packet for this SA passes, this one first, and whether
// it is the first of its group. Both results are of one moment; separate calls of Chain
// and IsHead may be before and after a change. The slice is shared and must not be
// changed.
func (sa *SA) Snapshot() (chain []*SA, head bool) {
	if p := sa.place.Load(); p != nil {
		return p.members[p.pos:], p.pos == 0
	}
	return sa.self[:], true
}

// Received is Snapshot for a packet that has been received. A group for both directions
// has its members in the order of sending; Received returns them in the other order.
func (sa *SA) Received() (chain []*SA, outermost bool) {
	p := sa.place.Load()
	if p == nil || p.received == nil {
		return sa.Snapshot()
	}
	pos := len(p.received) - 1 - p.pos
	return p.received[pos:], pos == 0
}

// Chain returns this SA and those after it in processing order: inner to outer
// for SAs that send, outer to inner for inbound ones. The slice is an immutable
// snapshot and must not be written to.
func (sa *SA) Chain() []*SA {
	chain, _ := sa.Snapshot()
	return chain
}

// IsHead reports whether this SA is the first of its group.
func (sa *SA) IsHead() bool {
	_, head := sa.Snapshot()
	return head
}

// members returns the whole group, or the SA alone if it has none.
func (sa *SA) members() []*SA {
	if p := sa.place.Load(); p != nil {
		return p.members
	}
	return sa.self[:]
}

// Policy returns the inbound policy, nil if none was set.
func (sa *SA) Policy() *klips.InboundPolicy { return sa.policy.Load() }

// Keys calls f with the SA's keys. It returns false if the SA is dead and has no keys
// any more. f must neither keep nor change them, nor call methods of the DB that change
// it. Calls for one SA run one at a time and not while the keys are being cleared.
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

// ivLen returns the length in bytes of the IV in listings: that of CBC ciphers.
func (sa *SA) ivLen() int {
	info, ok := sa.Transform.Enc.Info()
	if !ok || info.AEAD || sa.ID.Proto != klips.ProtoESP {
		return 0
	}
	return info.IV
}

// IV returns a copy of the random IV that the SA was made with, nil if the cipher is
// not in CBC mode. Listings show it before the first packet.
func (sa *SA) IV() []byte {
	n := sa.ivLen()
	if n == 0 {
		return nil
	}
	return bytes.Clone(sa.iv[:min(n, len(sa.iv))])
}

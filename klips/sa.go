package klips

import (
	"maps"
	"math"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips/drop"
)

// A Direction is the direction of an SA's packets. It is decided once, when the SA is
// made, see [DirectionOf].
type Direction uint8

// The directions. Both is that of an SA to a multicast group that all hosts of a link use,
// to send and to receive (RFC 4552 section 7).
const (
	Outbound Direction = iota
	Inbound
	Both
)

// Sends reports whether packets are sent with an SA of this direction.
func (d Direction) Sends() bool { return d != Inbound }

// Receives reports whether packets are received with an SA of this direction.
func (d Direction) Receives() bool { return d != Outbound }

// DirectionOf returns the direction of an SA with a destination and a source, on the host
// for whose own addresses local reports true. An SA to a multicast group belongs to its
// source, if it has one (RFC 4301 section 4.1), and else serves both directions.
func DirectionOf(dst, src netip.Addr, local func(netip.Addr) bool) Direction {
	switch {
	case local(dst):
		return Inbound
	case !dst.IsMulticast():
		return Outbound
	case !src.IsValid() || src.IsUnspecified():
		return Both
	case local(src):
		return Outbound
	}
	return Inbound
}

// A State is the state of an SA (SADB_SASTATE_*, RFC 2367 section 3.1.3).
type State uint8

// The states. LARVAL and DEAD SAs carry no packets.
const (
	Larval State = iota
	Mature
	Dying // a soft lifetime has passed
	Dead
)

// Limits are lifetime limits of an SA; zero means no limit. A limit has passed
// when the SA's value is strictly greater.
type Limits struct {
	Allocations uint32 `json:"allocations,omitempty"`
	Bytes       uint64 `json:"bytes,omitempty"`
	AddTime     uint64 `json:"addtime,omitempty"` // seconds since the SA was made
	UseTime     uint64 `json:"usetime,omitempty"` // seconds since its first packet
	Packets     uint64 `json:"packets,omitempty"`
}

// A NATTType is the UDP encapsulation of an ESP SA.
type NATTType uint8

// The encapsulations.
const (
	NATTNone   NATTType = 0
	NATTNonIKE NATTType = 1 // eight zero bytes before the SPI (draft-02), port 500
	NATTNonESP NATTType = 2 // RFC 3948, port 4500
)

// A NATT is the UDP encapsulation of an ESP SA; ports are in host order.
type NATT struct {
	Type  NATTType `json:"type,omitempty"`
	SPort uint16   `json:"sport,omitempty"`
	DPort uint16   `json:"dport,omitempty"`
	// OA is the peer's address on its side of the NAT (NAT-OA); not valid if unknown.
	// Only transport mode uses it.
	OA netip.Addr `json:"oa,omitzero"`
}

// An SASpec specifies a new SA (SADB_ADD). The stack copies the keys; the caller clears
// them with [SASpec.ClearKeys] when done.
type SASpec struct {
	ID  SAID
	Src netip.Addr // source of the outer header; any (0.0.0.0 or ::): not checked
	Transform
	AuthKey []byte // exactly as long as the algorithm requires, see alg.Info.KeyBits
	EncKey  []byte
	Window  uint32 // anti-replay window in packets; 0 = none; above 64 only with CapLargeWindow
	// ESN gives an ESP or AH SA sequence numbers of 64 bits (RFC 4303 section 2.2.1);
	// only with CapESN. It needs authentication and a window.
	ESN bool
	// Align8 pads the header of an AH SA over IPv4 to a multiple of 8 bytes, which is
	// the default of Linux, instead of 4 (RFC 4302 section 3.3.3.2.1). Stack user
	// receives both; stack xfrm receives only the form that it sends; stack klips has
	// only the short form (FaultAlign8).
	Align8 bool
	// CopyTOS has a tun SA copy the TOS or traffic class of packets to their outer
	// headers: the DSCP (RFC 2983 section 3, uniform model) and the ECN field (RFC 6040
	// section 4.1, normal mode). Without it stack user follows its knob tos, and stack
	// xfrm sends 0. An inbound SA can have it too, without an effect. Only with
	// CapCopyTOS (FaultCopyTOS).
	CopyTOS bool
	Soft    Limits
	Hard    Limits
	// Seq is the sequence number that counts as the last one sent. ReplaySeq counts as
	// the highest received; all lower ones count as received too. Only ESP and AH SAs
	// have numbers, of 32 bits without ESN, and ReplaySeq needs a window; only with
	// CapSeq. nil: the stack chooses, 0 for an unknown key.
	Seq, ReplaySeq *uint64

	NATT   NATT
	Ref    uint32 // SAref for this SA, 0 = the stack chooses
	RefHim uint32 // SAref of the peer's SA
	OutIf  uint16 // device number (ipsecN = 49152+N), 0 = none
	// ReuseKey allows an outbound SA with the combined-mode key (AES-GCM,
	// ChaCha20-Poly1305), salt included, of another outbound SA. It is for test
	// networks; see FaultKeyUsed.
	ReuseKey bool
	// Offload is the physical device that encrypts or decrypts an ESP SA's packets, ""
	// for none; only with CapOffload.
	Offload string
}

// SeqFits reports whether an SA can have Seq and ReplaySeq. If one is set, the SA must
// be ESP or AH; without ESN they have at most 32 bits; and ReplaySeq needs a window.
func (s *SASpec) SeqFits() bool {
	for _, n := range [...]*uint64{s.Seq, s.ReplaySeq} {
		if n != nil && (s.ID.Proto != ProtoESP && s.ID.Proto != ProtoAH || !s.ESN && *n > math.MaxUint32) {
			return false
		}
	}
	return s.ReplaySeq == nil || s.Window > 0
}

// ClearKeys overwrites the keys with zeros and drops them.
func (s *SASpec) ClearKeys() {
	clear(s.AuthKey)
	clear(s.EncKey)
	s.AuthKey, s.EncKey = nil, nil
}

// A Counter is one lifetime dimension of an SA: its current value and its limits. For
// the time dimensions Count is elapsed seconds.
type Counter struct {
	Count uint64 `json:"count"`
	Soft  uint64 `json:"soft,omitempty"`
	Hard  uint64 `json:"hard,omitempty"`
	// Below is how far the count is below zero, if Count is 0. Only a classic KLIPS
	// kernel has such counts: it counts the bytes of outbound AH SAs wrongly.
	Below uint64 `json:"below_zero,omitempty"`
}

// SetRaw sets the count to a KLIPS kernel's number of 64 bits. The highest bit is set
// only if KLIPS has counted below zero.
func (c *Counter) SetRaw(v uint64) {
	c.Count, c.Below = v, 0
	if int64(v) < 0 {
		c.Count, c.Below = 0, -v
	}
}

// Raw returns the count in the form for SetRaw.
func (c Counter) Raw() uint64 {
	if c.Below != 0 {
		return -c.Below
	}
	return c.Count
}

// A Life has the five lifetime dimensions of an SA.
type Life struct {
	Allocations Counter `json:"allocations"`
	Bytes       Counter `json:"bytes"`
	AddTime     Counter `json:"addtime"`
	UseTime     Counter `json:"usetime"`
	Packets     Counter `json:"packets"`
}

// IdleRefs is the reference count that KLIPS shows for an unused SA. Stacks without
// reference counts show it, because scripts expect the field.
const IdleRefs = 3

// An SA is a security association in listings. It never contains keys.
type SA struct {
	ID        SAID       `json:"said"`
	Transform Transform  `json:"transform"`
	Dir       Direction  `json:"dir"`
	State     State      `json:"state"`
	Src       netip.Addr `json:"src"`

	// Policy is the inbound policy that eroute --addin gave to the SA; nil if there is
	// none.
	Policy *InboundPolicy `json:"policy,omitempty"`

	IV         []byte `json:"iv,omitempty"` // the next packet's, for CBC ciphers
	Window     uint32 `json:"window,omitempty"`
	ESN        bool   `json:"esn,omitempty"`
	Align8     bool   `json:"align8,omitempty"`
	CopyTOS    bool   `json:"copy_tos,omitempty"`
	Offload    string `json:"offload,omitempty"`     // the device that it is offloaded to
	ReplayErrs uint32 `json:"replay_errs,omitempty"` // ooo_errs
	Seq        uint64 `json:"seq,omitempty"`         // last sent or highest received
	Bitmap     uint64 `json:"bitmap,omitempty"`      // the newest 64 bits of the window
	MaxSeqDiff uint32 `json:"max_seq_diff,omitempty"`
	Flags      uint32 `json:"flags,omitempty"` // FlagInFlow, FlagPolicyOnly, …

	// PathMTU is the length in bytes, with all headers, of the longest packets that the
	// path carries, if a router has reported one; 0: none is known. Only stack user has
	// it.
	PathMTU int `json:"path_mtu,omitempty"`

	// BelowMark counts packets that were refused because an earlier SA with this key
	// has received their sequence numbers: replayed packets, or a peer that has
	// restarted. They are also in ReplayErrs, or among the failed ones of an SA with
	// ESN. SeqWaits counts packets that were not sent because no numbers were reserved
	// in time.
	BelowMark uint32 `json:"below_mark,omitempty"`
	SeqWaits  uint32 `json:"seq_waits,omitempty"`
	// Drops counts packets that this SA dropped, by reason. Only stacks that know the
	// reasons have it.
	Drops drop.Counts `json:"drops,omitempty"`

	AuthKeyBits int    `json:"auth_key_bits,omitempty"`
	AuthErrs    uint32 `json:"auth_errs,omitempty"`
	EncKeyBits  int    `json:"enc_key_bits,omitempty"`
	SizeErrs    uint32 `json:"size_errs,omitempty"`
	PadErrs     uint32 `json:"pad_errs,omitempty"`
	// SameKey has the oldest other SAs, at most four, with the same combined-mode key,
	// salt included.
	SameKey []SAID `json:"same_key,omitempty"`

	Life Life          `json:"life"`
	Used bool          `json:"used,omitempty"` // a packet has used it; Idle counts from the last one
	Idle time.Duration `json:"idle,omitempty"`

	// Uncompressed and Compressed are the byte totals of a comp SA ("ratio=").
	Uncompressed uint64 `json:"uncompressed,omitempty"`
	Compressed   uint64 `json:"compressed,omitempty"`

	NATT NATT `json:"natt"`
	// HeardAddr and HeardPort are where the newest authentic packet of an inbound SA in UDP
	// came from, if that is not Src and NATT.SPort: a NAT on the way uses others. Packets
	// are not sent there. Only stack user has them.
	HeardAddr netip.Addr `json:"heard_addr,omitzero"`
	HeardPort uint16     `json:"heard_port,omitempty"`

	RefCount int    `json:"refcount"`
	Ref      uint32 `json:"ref"`
	RefHim   uint32 `json:"refhim"`
	OutIf    uint16 `json:"outif,omitempty"`

	// AddAgain and GroupAgain report that a restarted stack still has the SA and its
	// group. Making them again, as scripts do after a restart of KLIPS, succeeds once
	// and changes nothing.
	AddAgain   bool `json:"add_again,omitempty"`
	GroupAgain bool `json:"group_again,omitempty"`

	// Next has the SAs that follow this one in its group, in processing order: inner to
	// outer for outbound SAs, outer to inner for inbound ones.
	Next []SAID `json:"next,omitempty"`
}

// HasSource reports whether the SA has a source. Without one, packets may be from anywhere.
func (s *SA) HasSource() bool { return s.Src.IsValid() && !s.Src.IsUnspecified() }

// HeardFrom returns HeardAddr and HeardPort; not valid: packets come from the source.
func (s *SA) HeardFrom() netip.AddrPort { return netip.AddrPortFrom(s.HeardAddr, s.HeardPort) }

// MaxSeq returns the highest sequence number that the SA can have; 0 if its packets have none.
func (s *SA) MaxSeq() uint64 {
	switch {
	case s.ID.Proto != ProtoESP && s.ID.Proto != ProtoAH:
		return 0
	case s.ESN:
		return math.MaxUint64
	}
	return math.MaxUint32
}

// DropCounts returns the packets that the SA dropped, by reason: Drops, or the counters of
// errors of a stack without reasons. The caller owns the result.
func (s *SA) DropCounts() drop.Counts {
	if len(s.Drops) > 0 {
		return maps.Clone(s.Drops)
	}
	c := drop.Counts{}
	c.Add(drop.BadICV, uint64(s.AuthErrs))
	c.Add(drop.Replayed, uint64(s.ReplayErrs))
	c.Add(drop.BadPadding, uint64(s.PadErrs))
	c.Add(drop.BadPacket, uint64(s.SizeErrs))
	return c
}

// An InboundPolicy selects the packets that may come out of an inbound SA: out of the
// tunnel of a tun SA, or after the header of another one is removed. Source is the
// peer's side.
type InboundPolicy = Selector

// PF_KEY SA flags (SADB_SAFLAGS_*).
const (
	FlagPFS         uint32 = 1
	FlagReplaceFlow uint32 = 2
	FlagClearFlow   uint32 = 4
	FlagInFlow      uint32 = 8
	FlagPolicyOnly  uint32 = 16
	// FlagESN means in listings and messages that SA.ESN is set; it is never in
	// SA.Flags. KLIPS does not have it. The number is that of the BSDs
	// (SADB_X_SAFLAGS_ESN).
	FlagESN uint32 = 0x400
)

// MaxGroup is the maximum number of SAs in one group command.
const MaxGroup = 4

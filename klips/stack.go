package klips

import (
	"context"
	"iter"
	"net/netip"

	"github.com/klips-go/ipsec/klips/drop"
)

// A Stack carries out the requests of the commands. Its methods may be called from
// several goroutines. Errors are *[OpError]; errors.Is works with the syscall.Errno of
// a KLIPS kernel, which each change documents.
type Stack interface {
	// Info returns what is known about the stack without a request to it.
	Info() Info
	// Apply carries out changes in their order, and stops at the first one that is
	// refused. Each change is made completely or not at all. The error belongs to the
	// first change that was not carried out.
	Apply(ctx context.Context, changes ...Change) (Result, error)
	// Hold makes other programs wait before they change the stack, until release is
	// called or the Stack is closed. They wait for some seconds, and are then refused
	// (EALREADY). A program that changes a stack according to what it has read must
	// hold it before it reads, as package plan does. For the tables of a kernel, this
	// affects only programs that use this package. EALREADY: another program has held
	// the stack for too long.
	Hold(ctx context.Context) (release func(), err error)
	// Snapshot reads the parts of the stack that w selects.
	Snapshot(ctx context.Context, w Want) (*Snapshot, error)
	// Events returns the stack's messages to key daemons, see [Event]. Other methods
	// must not be called meanwhile. EOPNOTSUPP: the stack sends none ([CapEvents]).
	Events(ctx context.Context, w EventWant) (iter.Seq2[Event, error], error)
	// Close closes the connection to the stack, and the ports that it holds; the stack
	// itself goes on.
	Close() error
}

// A Parter is a Stack that can list its long tables in parts, so that neither end needs
// memory for a whole one. Each part is in the order of a [Snapshot], after the earlier
// ones; it is valid until the next one is read. Between two parts other methods may be
// called, and any time may pass.
//
// The tables may change meanwhile. An object that exists all the time is listed once, as it
// is when its part is read. One that is made or removed meanwhile may be listed or not, so
// a group may be listed in part. After [Stack.Hold] other programs make no changes; SAs may
// still expire. After an error there are no more parts.
type Parter interface {
	SAParts(ctx context.Context) iter.Seq2[[]SA, error]
	ErouteParts(ctx context.Context) iter.Seq2[[]Eroute, error]
}

// SAParts lists the SAs of a stack in parts, or in one part if the stack has none. See
// [Parter].
func SAParts(ctx context.Context, s Stack) iter.Seq2[[]SA, error] {
	if p, ok := s.(Parter); ok {
		return p.SAParts(ctx)
	}
	return func(yield func([]SA, error) bool) { yield(ReadSAs(ctx, s)) }
}

// ErouteParts lists the eroutes of a stack in the same way.
func ErouteParts(ctx context.Context, s Stack) iter.Seq2[[]Eroute, error] {
	if p, ok := s.(Parter); ok {
		return p.ErouteParts(ctx)
	}
	return func(yield func([]Eroute, error) bool) { yield(ReadEroutes(ctx, s)) }
}

// An Info is what is known about a stack without a request to it.
type Info struct {
	Name string // as in --stack: "user", "xfrm" or "klips"
	// Has reports whether the stack has an ability that not all stacks have.
	Has func(Capability) bool
}

// A Want selects the parts of a [Snapshot]. Tables are read in the order of its fields.
type Want struct {
	Version bool
	Eroutes bool
	SAs     bool // all
	SA      SAID // this one alone. ESRCH: it does not exist
	Group   SAID // all SAs of its group. ESRCH as for SA
	Devices bool
	Debug   bool
	Knobs   bool
	Foreign bool
	// ForeignPolicies are policies among Foreign. Only stack xfrm has them.
	ForeignPolicies bool
	Drops           bool
	// LastDrops is the newest dropped packet for each reason. Only stack user has it.
	LastDrops bool
	// KernelDrops are the kernel's own counters of dropped packets. Only stack xfrm has them.
	KernelDrops bool
	// Unread names tables, as in /proc/net, to be searched for unreadable lines.
	Unread     []string
	Marks      bool
	Registered bool
	Port       uint16 // whether any program has this UDP port; 0: not wanted
	// Abilities finds out by trials what the kernel can do; they leave no trace, and take
	// seconds.
	Abilities bool
	// Text names a table in /proc/net to be read as text, such as "ipsec_spi". ENOENT:
	// it does not exist.
	Text string
}

// A Snapshot is the state of a stack. Fields that were not wanted, or that the stack
// does not have, are zero.
type Snapshot struct {
	Version string // the line of ipsec_version, without a newline
	// SAs are in KLIPS' order: by hash bucket, newest first. Those of a group are in
	// processing order.
	SAs []SA
	// Eroutes are in ascending order of their keys: IPv4 before IPv6, then source,
	// destination, protocol, ports; longest masks first.
	Eroutes []Eroute
	Devices []Device // by number
	Debug   Debug
	Knobs   []Knob // by name
	// Foreign describes the objects of other programs in the tables of the kernel, one
	// to a line. They are shown and never changed.
	Foreign []string
	// ForeignPolicies are the policies among Foreign, in the order in which the kernel
	// prefers them.
	ForeignPolicies []ForeignPolicy
	// Drops counts dropped packets that belong to no device (others are in its
	// Device.Drops), by reason, since the stack started.
	Drops drop.Counts
	// LastDrops are the newest dropped packets, one for each reason, newest first.
	LastDrops []Dropped
	// KernelDrops are in the kernel's order. They are also in Drops, by reason.
	KernelDrops []KernelDrops
	Unread      []UnreadLine // in the order of the tables and of their lines
	Marks       *Marks       // nil: the stack's process keeps them, or there are none
	// Registered reports whether a program has registered for the stack's messages
	// (SADB_REGISTER), as key daemons do.
	Registered bool
	PortTaken  bool
	Abilities  []Ability
	Text       []byte
}

// A ForeignPolicy is a policy that another program has made in the tables of the kernel.
type ForeignPolicy struct {
	Selector
	Direction string // out, in or fwd
	// Action is what happens to its packets: allow, block, or protect.
	Action   string
	Priority uint32 // the lowest one counts
	// IfID is the ID of the xfrm interface whose packets it is for; 0: packets of other
	// devices.
	IfID uint32
}

// Marks are the sequence marks of a stack without a process, see package marks.
type Marks struct {
	Dir  string // the directory; empty: none are kept
	Keys int    // number of keys with marks
	Lost error  // why marks are not kept, although there is a Dir
}

// An EventWant selects events.
type EventWant struct {
	// Register are the SA types (SADB_SATYPE_*) to register for, one after the other:
	// the stack then sends ACQUIRE for them. An error means that a registration failed.
	Register []uint8
}

// An Event is a message that a stack sends to all key daemons: answers, EXPIRE, ACQUIRE
// (RFC 2367 section 3.1). Those to the registrations come first. The sequence ends after
// an error: that of the context, or one that wraps io.ErrUnexpectedEOF when the stack has
// gone.
type Event struct {
	PFKey []byte // the message in wire form, unchecked; the caller owns it
}

// A Notice is a message of a [Notifier]. The zero Notice means that something has changed.
type Notice struct {
	// Expired is the SA of which a lifetime limit has passed; zero: none. Hard: it was a hard
	// limit, and the SA is gone.
	Expired SAID
	Hard    bool
	// Acquire selects the packets that need an SA; nil: none do.
	Acquire *Selector
	// Moved is the inbound SA whose packets come from To in place of From, or one of its
	// packets after that; zero: none.
	Moved    SAID
	From, To netip.AddrPort
}

// A Notifier is a Stack without the messages of [Stack.Events] that reports its changes.
type Notifier interface {
	// Notify returns the messages from now on. acquire takes the program for a key daemon:
	// packets that need an SA wait for it. The sequence ends after an error.
	Notify(ctx context.Context, acquire bool) (iter.Seq2[Notice, error], error)
}

// ReadSAs reads the SAs of a stack.
func ReadSAs(ctx context.Context, s Stack) ([]SA, error) {
	t, err := read(ctx, s, Want{SAs: true})
	return t.SAs, err
}

// ReadSA reads one SA. ESRCH: there is none.
func ReadSA(ctx context.Context, s Stack, id SAID) (SA, error) {
	t, err := read(ctx, s, Want{SA: id})
	if err != nil {
		return SA{}, err
	}
	return t.SAs[0], nil
}

// ReadGroup reads all SAs of an SA's group, in processing order; without a group, the
// SA alone. ESRCH: there is no such SA. [ErrUnread]: a line about it in the tables
// cannot be parsed.
func ReadGroup(ctx context.Context, s Stack, id SAID) ([]SA, error) {
	t, err := read(ctx, s, Want{Group: id})
	return t.SAs, err
}

// ReadEroutes reads the eroutes of a stack.
func ReadEroutes(ctx context.Context, s Stack) ([]Eroute, error) {
	t, err := read(ctx, s, Want{Eroutes: true})
	return t.Eroutes, err
}

// ReadDevices reads the virtual devices of a stack.
func ReadDevices(ctx context.Context, s Stack) ([]Device, error) {
	t, err := read(ctx, s, Want{Devices: true})
	return t.Devices, err
}

// ReadDebug reads the debug masks of a stack.
func ReadDebug(ctx context.Context, s Stack) (Debug, error) {
	t, err := read(ctx, s, Want{Debug: true})
	return t.Debug, err
}

func read(ctx context.Context, s Stack, w Want) (*Snapshot, error) {
	t, err := s.Snapshot(ctx, w)
	if err != nil {
		return &Snapshot{}, err
	}
	return t, nil
}

// An Ability is something that depends on the kernel of a stack.
type Ability struct {
	Name    string // as in "esp over IPv4", or the name of an algorithm
	Missing string // why it is missing, as text; empty if it is not
	// Algorithm is the only algorithm without which there is no such ability; zero if that
	// is none. Several abilities can have the same one.
	Algorithm Transform
}

// A Capability is something that only some stacks can do. The contract suite checks
// that a stack has it or refuses it; it must not ignore it silently.
type Capability uint8

// The capabilities.
const (
	// CapAEAD: AES-GCM and ChaCha20-Poly1305.
	CapAEAD Capability = iota
	// CapLargeWindow: replay windows above 64 packets.
	CapLargeWindow
	// CapPacketLimits: lifetime limits in packets.
	CapPacketLimits
	// CapAtomicGroup: a group of three or four is made in one step.
	CapAtomicGroup
	// CapESN: extended sequence numbers (RFC 4303 section 2.2.1).
	CapESN
	// CapDebug: debug masks can be set.
	CapDebug
	// CapPass: eroutes to %pass.
	CapPass
	// CapReject: eroutes to %reject.
	CapReject
	// CapOffload: physical devices can encrypt and decrypt. A refusal has the errno
	// EOPNOTSUPP.
	CapOffload
	// CapTransportDevice: packets for an SA in transport mode go through a virtual
	// device, as in KLIPS. Without it, such packets are dropped if they are routed into
	// a device; other packets are matched with eroutes without a device.
	CapTransportDevice
	// CapTransportPolicy: SAs in transport mode can have inbound policies, and policies
	// can have a protocol and ports. Without it, a policy is always for all protocols
	// and ports.
	CapTransportPolicy
	// CapSeq: a new SA can have sequence numbers to continue from.
	CapSeq
	// CapCopyTOS: a tun SA can copy the TOS of packets to their outer headers.
	CapCopyTOS
	// CapKnobs: the stack has knobs.
	CapKnobs
	// CapGuard: flows can be guarded, if the kernel has a suitable packet filter.
	CapGuard
	// CapEvents: the stack sends messages to key daemons.
	CapEvents
	// CapHoldPort: the stack is a kernel that accepts UDP-encapsulated ESP on a port
	// only while a program holds the port.
	CapHoldPort
	// CapText: the tables of the stack are text. Listings print them unchanged, and
	// lines can be unreadable ([UnreadLine]).
	CapText
	// CapGroupRead: one group can be read without reading all SAs.
	CapGroupRead
	// CapDirect: packets can leave past the kernel's IP output.
	CapDirect
	// CapAlso: the packets of an eroute can be spread over several SAs.
	CapAlso
	// CapMarks: the changes themselves keep sequence marks, because the stack has no
	// process.
	CapMarks
)

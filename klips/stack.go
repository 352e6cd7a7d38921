package klips

import (
	"context"
	"iter"

	"github.com/klips-go/ipsec/klips/drop"
)

// A Stack carries out what the commands ask for. Its methods may be called from several
// goroutines. Errors are *[OpError]; errors.Is works with the syscall.Errno that a KLIPS
// kernel answers, named with each change.
type Stack interface {
	// Info returns what is known of the stack without asking it.
	Info() Info
	// Apply carries out changes in their order, and stops at the first one that is
	// refused. Each of them changes all of what it is asked, or nothing. The error is
	// about the first change that was not carried out.
	Apply(ctx context.Context, changes ...Change) (Result, error)
	// Hold keeps other programs from changing the stack until release is called, or the
	// Stack is closed. They wait for some seconds; then they are refused (EALREADY). A
	// program that changes a stack by what it has read holds it from before it reads, as
	// package plan does. In the tables of a kernel that keeps out those alone that use
	// this package. EALREADY: another program has held it for too long.
	Hold(ctx context.Context) (release func(), err error)
	// Snapshot reads what w asks for.
	Snapshot(ctx context.Context, w Want) (*Snapshot, error)
	// Events returns what the stack sends to key daemons, see [Event]. Other methods
	// must not be called meanwhile. EOPNOTSUPP: the stack sends nothing ([CapEvents]).
	Events(ctx context.Context, w EventWant) (iter.Seq2[Event, error], error)
	// Close frees the connection to the stack, and the ports that it holds; the stack
	// itself goes on.
	Close() error
}

// An Info is what is known of a stack without asking it.
type Info struct {
	Name string // as --stack takes it: "user", "xfrm" or "klips"
	// Has reports whether the stack has an ability that not all have.
	Has func(Capability) bool
}

// A Want says what a [Snapshot] is to have. Tables are read in the order of its fields.
type Want struct {
	Version bool
	Eroutes bool
	SAs     bool // all
	SA      SAID // this one alone. ESRCH: there is none
	Group   SAID // all SAs of the group that it is in. ESRCH as for SA
	Devices bool
	Debug   bool
	Knobs   bool
	Foreign bool
	Drops   bool
	// Unread are the tables, by their names in /proc/net, whose lines are looked through
	// for some that cannot be read.
	Unread     []string
	Marks      bool
	Registered bool
	Port       uint16 // whether any program has this UDP port; 0: not asked
	// Abilities finds out by trials what the kernel can do; they leave no trace, and take
	// seconds.
	Abilities bool
	// Text is the name in /proc/net of a table that is wanted as text, such as
	// "ipsec_spi". ENOENT: there is none.
	Text string
}

// A Snapshot is what a stack has. What was not asked for, and what the stack does not
// have, is zero.
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
	// Foreign describes the objects that other programs have made in the tables of the
	// kernel, one to a line. They are shown and never touched.
	Foreign []string
	// Drops counts packets that went no further and belong to no device (those that do
	// are in its Device.Drops), by reason, since the stack began.
	Drops  drop.Counts
	Unread []UnreadLine // in the order of the tables and of their lines
	Marks  *Marks       // nil: the stack has a process that keeps them, or none at all
	// Registered reports whether a program has registered for messages that the stack
	// sends to key daemons (SADB_REGISTER), as these do.
	Registered bool
	PortTaken  bool
	Abilities  []Ability
	Text       []byte
}

// Marks are the sequence marks of a stack without a process, see package marks.
type Marks struct {
	Dir  string // where they are kept; empty: nowhere
	Keys int    // how many keys are remembered
	Lost error  // why they are not kept, although there is a Dir
}

// An EventWant says which events are wanted.
type EventWant struct {
	// Register are the SA types (SADB_SATYPE_*) to register for, one after the other: the
	// stack then sends ACQUIRE for them. An error says that a registration failed.
	Register []uint8
}

// An Event is a message that a stack sends to all key daemons: answers, EXPIRE, ACQUIRE
// (RFC 2367 section 3.1). Those to the registrations come first. The sequence ends after
// an error: that of the context, or one that wraps io.ErrUnexpectedEOF when the stack has
// gone.
type Event struct {
	PFKey []byte // the message in wire form, unchecked; it is the caller's
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

// ReadGroup reads all SAs of the group that an SA is in, in processing order; an SA in no
// group is alone. ESRCH: there is no such SA. [ErrUnread]: a line of the tables about it
// cannot be read.
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
	Missing string // why it is not there, in words; empty if it is
}

// A Capability is something that only some stacks can do. The contract suite
// checks that a stack has each or refuses it; nothing is silently left out.
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
	// CapOffload: a physical device encrypts and decrypts, if it can. What is
	// refused has the errno EOPNOTSUPP.
	CapOffload
	// CapTransportDevice: packets for an SA in transport mode go through a virtual
	// device, as with KLIPS. Where it is missing, those that are routed into one
	// are dropped, and the rest meets their eroute without.
	CapTransportDevice
	// CapTransportPolicy: SAs in transport mode have inbound policies, too, and
	// policies can have a protocol and ports. Where it is missing, a policy is for
	// all protocols and ports, whatever it was set with.
	CapTransportPolicy
	// CapSeq: an SA can be made with sequence numbers to go on from.
	CapSeq
	// CapKnobs: the stack has knobs.
	CapKnobs
	// CapGuard: flows can be guarded, where the kernel has a packet filter for it.
	CapGuard
	// CapEvents: the stack sends messages to key daemons.
	CapEvents
	// CapHoldPort: the stack is a kernel that takes ESP out of UDP only while a program
	// holds the port.
	CapHoldPort
	// CapText: the tables of the stack are text. Listings print them unchanged, and lines
	// of them can be such that nobody can read ([UnreadLine]).
	CapText
	// CapGroupRead: one group is read without reading all SAs.
	CapGroupRead
	// CapMarks: sequence marks are kept by the changes themselves, as the stack has no
	// process.
	CapMarks
)

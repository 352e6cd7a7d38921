package klips

import (
	"context"
	"io"
)

// A Stack carries out what the commands ask for. Its methods may be called
// from several goroutines.
//
// Every method that changes something changes all of what it was asked or
// nothing. Errors are *[OpError]; errors.Is works with the syscall.Errno that
// a KLIPS kernel answers, named with each method.
type Stack interface {
	// Name is the stack's name as --stack takes it: "user", "xfrm" or "klips".
	Name() string
	// Version is the line of ipsec_version, without a newline.
	Version(ctx context.Context) (string, error)
	// Has reports whether the stack has an ability that not all have.
	Has(c Capability) bool

	Changes

	// Attach binds a virtual device to a physical one. ENODEV: no such virtual
	// device. ENXIO: no such physical device. EBUSY: attached already.
	Attach(ctx context.Context, virtual, physical string) error
	// Detach unbinds it. ENODEV: no such device, or not attached.
	Detach(ctx context.Context, virtual string) error
	// DetachAll unbinds all virtual devices.
	DetachAll(ctx context.Context) error
	// CreateDevice makes ipsecN. EEXIST: it is there. ENOENT: N is too large.
	CreateDevice(ctx context.Context, virtual string) error
	// DeleteDevice removes ipsecN. ENOENT: there is none.
	DeleteDevice(ctx context.Context, virtual string) error

	// SetDebug changes the debug masks.
	SetDebug(ctx context.Context, c DebugChange) error

	// GetSA returns one SA. ESRCH: there is none.
	GetSA(ctx context.Context, id SAID) (SA, error)
	// SAs lists the SAs in KLIPS' order: by hash bucket, newest first.
	SAs(ctx context.Context) ([]SA, error)
	// Eroutes lists the eroutes in ascending order of their keys: IPv4 before
	// IPv6, then source, destination, protocol, ports; longest masks first.
	Eroutes(ctx context.Context) ([]Eroute, error)
	// Devices lists the virtual devices by number.
	Devices(ctx context.Context) ([]Device, error)
	// Debug returns the debug masks.
	Debug(ctx context.Context) (Debug, error)

	// Close frees the connection to the stack; the stack itself goes on.
	Close() error
}

// Changes are what commands do to SAs, groups and eroutes.
type Changes interface {
	// AddSA makes an SA. EEXIST: there is one with that SAID. EINVAL: keys,
	// window or combination of algorithms are not possible. EPROTO: the cipher
	// is unknown to the stack. EOPNOTSUPP: the stack, its kernel or a device
	// cannot do what is asked. EKEYREJECTED: [FaultKeyUsed]. EKEYEXPIRED:
	// [FaultNoNumbers].
	AddSA(ctx context.Context, spec *SASpec) error
	// DeleteSA removes an SA and with it all members of its group; eroutes
	// stay. ESRCH: there is none. EBUSY (stack klips): KLIPS would leave an SA that
	// points at what it frees.
	DeleteSA(ctx context.Context, id SAID) error
	// ClearSAs removes all SAs; eroutes stay. EBUSY as for DeleteSA.
	ClearSAs(ctx context.Context) error

	// Group links two to MaxGroup SAs, named from the innermost transform to
	// the outermost. Groups that exist may be joined by linking the end of one
	// to the start of another. ENOENT: an SA is missing. EEXIST: the link would
	// give an SA a second neighbour on one side, or close a loop.
	Group(ctx context.Context, ids []SAID) error
	// Ungroup takes the whole group that an SA is in apart; the SAs stay.
	// ENOENT: there is no such SA. An SA in no group is no error. EBUSY (stack
	// klips): KLIPS would free an SA of it.
	Ungroup(ctx context.Context, id SAID) error

	// SetEroute adds or replaces an eroute, or sets an inbound policy. EEXIST:
	// ErouteAdd and the selector is there.
	//
	// An inbound policy belongs to the first tun SA from the named one on, in
	// processing order. Where there is none, it belongs to the last SA: in transport
	// mode that is the one that takes off the innermost header. ENOENT: the SA is
	// missing, or there is no tun SA and the stack has no [CapTransportPolicy].
	// EINVAL: the policy would be for an SA in transport mode, and the selector is
	// not of its family.
	SetEroute(ctx context.Context, e Eroute, op ErouteOp) error
	// DeleteEroute removes the eroute with exactly this selector. ENOENT: there
	// is none (stack klips: EFAULT as well).
	DeleteEroute(ctx context.Context, s Selector) error
	// ClearEroutes removes all eroutes; inbound policies stay.
	ClearEroutes(ctx context.Context) error
}

// As finds the optional interface T in a stack or in one that it wraps: those
// that wrap have a method Unwrap() Stack.
func As[T any](s Stack) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(interface{ Unwrap() Stack })
		if !ok {
			break
		}
		s = w.Unwrap()
	}
	var none T
	return none, false
}

// Collector is a stack that carries out many changes at once much faster than
// one by one.
type Collector interface {
	// Collect returns an empty collection.
	Collect() Collection
}

// A Collection takes changes to carry them out together. Its methods refuse what
// the stack would refuse if everything that was collected before had been
// carried out, as far as that can be known; a change that is refused is not
// collected. It is not for several goroutines.
type Collection interface {
	Changes
	// Len is how many changes have been collected.
	Len() int
	// Commit carries out the first n changes and forgets all. done is how many
	// were carried out: n, or as many as are before the one that the error is of.
	Commit(ctx context.Context, n int) (done int, err error)
}

// TextTables is a stack whose tables are text. Listings print them unchanged.
type TextTables interface {
	// Table returns a table by its name in /proc/net, such as "ipsec_spi".
	// ENOENT: there is none.
	Table(ctx context.Context, name string) ([]byte, error)
}

// Shared is a stack whose tables other programs use as well. What these made is
// shown and never touched.
type Shared interface {
	// Foreign describes, one to a line, the objects that others made.
	Foreign(ctx context.Context) ([]string, error)
}

// Carrier is a stack that takes SAs of which it then drops all packets.
type Carrier interface {
	// CarryFault returns why an SA that the stack takes would carry no packet, or
	// FaultNone, also where that cannot be known. It does not look at what the
	// stack refuses.
	CarryFault(ctx context.Context, spec *SASpec) Fault
}

// Marker is a stack without a process: its changes themselves keep how far the sequence
// numbers of keys have come, see package marks.
type Marker interface {
	// KeepMarks names the directory; empty, as at first: none.
	KeepMarks(dir string)
	// OnMarksLost has f told, once, why marks are not kept although there is a
	// directory, or what is damaged of them. The changes are made all the same.
	OnMarksLost(f func(error))
	// Marks returns the directory and how many keys are remembered in it, or why they
	// are not.
	Marks(ctx context.Context) (dir string, keys int, err error)
}

// Registry is a stack whose tables key daemons use as well, where nobody can tell
// who has made what.
type Registry interface {
	// Registered reports whether a program has registered for messages that the
	// stack sends to key daemons (SADB_REGISTER), as these do.
	Registered(ctx context.Context) (bool, error)
}

// Tunable is a stack that has knobs.
type Tunable interface {
	// Knobs lists them by name.
	Knobs(ctx context.Context) ([]Knob, error)
	// Set sets knobs by name, all or none, from the next packet on. ENOENT: there is
	// none of a name. EINVAL: a value is neither 0 nor 1.
	Set(ctx context.Context, knobs map[string]int) error
}

// PortHolder is a stack of a kernel that takes ESP out of UDP only while a program
// holds the port. It sends ESP in UDP without.
type PortHolder interface {
	// HoldPort opens a UDP port for ESP of that form, NATTNonESP or NATTNonIKE, in
	// the network namespace of the calling thread. EADDRINUSE: another program has
	// it. What comes to it and is not ESP is dropped.
	HoldPort(ctx context.Context, port uint16, form NATTType) (HeldPort, error)
	// PortTaken reports whether any program has the UDP port.
	PortTaken(ctx context.Context, port uint16) (bool, error)
}

// A HeldPort is a port that is held until it is closed.
type HeldPort interface {
	io.Closer
	// IPv6 reports whether it is held for IPv6 as well as for IPv4.
	IPv6() bool
}

// Prober is a stack that depends on its kernel in what it can do.
type Prober interface {
	// Probe finds out, by trials that leave no trace or from what the kernel lists.
	// An empty list means that nothing is known.
	Probe(ctx context.Context) ([]Ability, error)
}

// An Ability is something that a [Prober] has found or missed.
type Ability struct {
	Name    string `json:"name"`              // as in "esp over IPv4", or the name of an algorithm
	Missing string `json:"missing,omitempty"` // why it is not there, in words; empty if it is
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
)

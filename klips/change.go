package klips

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Change is one request to a stack, as a value: it can be printed, checked without a
// stack, and kept to be sent with others. The types of this file are the only ones. A
// Change prints as its Op and Object; keys are never printed.
type Change interface {
	fmt.Stringer
	// Op is the operation, as in [OpError]: "add SA".
	Op() string
	// Object is what it changes, as in [OpError]; empty for a whole table.
	Object() string
}

// AddSA makes an SA (SADB_ADD). EEXIST: the SAID is in use. EINVAL: keys, window or
// combination of algorithms are invalid. EPROTO: the cipher is unknown to the stack.
// EOPNOTSUPP: the stack, its kernel or a device cannot do what is asked. EKEYREJECTED:
// [FaultKeyUsed]. EKEYEXPIRED: [FaultNoNumbers].
//
// The caller still owns the keys: a stack copies them.
type AddSA struct{ *SASpec }

// DeleteSA removes an SA and all members of its group; eroutes stay. ESRCH: there is no
// such SA. EBUSY (stack klips): KLIPS would leave an SA that points at freed memory.
type DeleteSA struct{ ID SAID }

// ClearSAs removes all SAs; eroutes stay. EBUSY as for [DeleteSA].
type ClearSAs struct{}

// Group links two to MaxGroup SAs, in order from the innermost transform to the
// outermost (RFC 2401 section 4.3: SA bundle). Existing groups may be joined: the end
// of one is linked to the start of another. ENOENT: an SA is missing. EEXIST: the link
// would give an SA a second neighbour on one side, or close a loop.
type Group struct{ IDs []SAID }

// Ungroup takes the whole group of an SA apart; the SAs stay. An SA without a group is
// not an error. ENOENT: there is no such SA. EBUSY (stack klips): KLIPS would free one
// of the SAs.
type Ungroup struct{ ID SAID }

// SetEroute makes an eroute. Without Replace, an existing selector is EEXIST. With
// Replace it replaces the eroute with that selector, if there is one (stack klips:
// EFAULT if there is none). EINVAL: [Eroute.AlsoFault]. EOPNOTSUPP: the stack lacks
// [CapAlso].
type SetEroute struct {
	Eroute
	Replace bool
}

// SetPolicy sets the inbound policy of an SA, and replaces an earlier one.
//
// The policy belongs to the first tun SA from the named one on, in processing order.
// Without a tun SA it belongs to the last SA, which in transport mode removes the
// innermost header. ENOENT: the SA is missing, or there is no tun SA and the stack
// lacks [CapTransportPolicy]. EINVAL: the policy would be for an SA in transport mode,
// and the selector is of the other family.
type SetPolicy struct {
	ID     SAID
	Policy InboundPolicy
	// Replace selects PF_KEY's operation for an existing policy (REPLACEFLOW). No stack
	// requires it.
	Replace bool
}

// DeleteEroute removes the eroute with exactly this selector. ENOENT: there is none
// (stack klips: EFAULT too).
type DeleteEroute struct{ Selector }

// ClearEroutes removes all eroutes; inbound policies stay.
type ClearEroutes struct{}

// Attach binds a virtual device to a physical one. ENODEV: no such virtual device.
// ENXIO: no such physical device. EBUSY: already attached.
type Attach struct {
	Virtual, Physical string
	// Direct has packets of ESP and AH leave past the kernel's IP output, where the next
	// hop is known: neither the packet filter nor traffic control of the host sees them.
	// Only with [CapDirect] (FaultDirect).
	Direct bool
}

// Detach unbinds a virtual device. ENODEV: no such device, or not attached.
type Detach struct{ Virtual string }

// DetachAll unbinds all virtual devices.
type DetachAll struct{}

// CreateDevice makes ipsecN. EEXIST: it exists. ENOENT: N is too large.
type CreateDevice struct{ Virtual string }

// DeleteDevice removes ipsecN. ENOENT: it does not exist.
type DeleteDevice struct{ Virtual string }

// SetDebug changes the debug masks. EOPNOTSUPP: the stack has none ([CapDebug]).
type SetDebug struct{ DebugChange }

// SetKnobs sets knobs by name, all or none, from the next packet on. ENOENT: no knob
// has that name. EINVAL: a value is invalid for the knob. EOPNOTSUPP: the stack has no
// knobs ([CapKnobs]), or its kernel cannot do what a knob requires.
type SetKnobs struct{ Knobs map[string]int }

// SetGuard guards a flow; see [Guard]. Guarding a guarded flow is not an error:
// [Outcome].Before. EOPNOTSUPP: the stack or its kernel has no suitable packet filter
// (nftables) ([CapGuard]).
type SetGuard struct{ Guard }

// RemoveGuard ends the guard of the flow with exactly this selector. ENOENT: it was not
// guarded. EOPNOTSUPP as for [SetGuard].
type RemoveGuard struct{ Selector }

// HoldPort opens a UDP port on which the kernel accepts UDP-encapsulated ESP, in the
// network namespace of the calling thread, until the [Stack] is closed. Other packets
// to the port are dropped. Form is NATTNonESP or NATTNonIKE. EADDRINUSE: another
// program has the port. EOPNOTSUPP: the stack opens the ports of its SAs itself
// ([CapHoldPort]).
type HoldPort struct {
	Port uint16
	Form NATTType
}

// The operations of the changes.

func (AddSA) Op() string    { return "add SA" }
func (DeleteSA) Op() string { return "delete SA" }
func (ClearSAs) Op() string { return "clear SAs" }
func (Group) Op() string    { return "group" }
func (Ungroup) Op() string  { return "ungroup" }
func (c SetEroute) Op() string {
	if c.Replace {
		return "replace eroute"
	}
	return "add eroute"
}
func (SetPolicy) Op() string    { return "set inbound policy" }
func (DeleteEroute) Op() string { return "delete eroute" }
func (ClearEroutes) Op() string { return "clear eroutes" }
func (Attach) Op() string       { return "attach" }
func (Detach) Op() string       { return "detach" }
func (DetachAll) Op() string    { return "detach all" }
func (CreateDevice) Op() string { return "create device" }
func (DeleteDevice) Op() string { return "delete device" }
func (SetDebug) Op() string     { return "set debug" }
func (SetKnobs) Op() string     { return "set" }
func (SetGuard) Op() string     { return "guard" }
func (RemoveGuard) Op() string  { return "unguard" }
func (HoldPort) Op() string     { return "open UDP port" }

func (c AddSA) Object() string        { return c.ID.String() }
func (c DeleteSA) Object() string     { return c.ID.String() }
func (ClearSAs) Object() string       { return "" }
func (c Group) Object() string        { return JoinSAIDs(c.IDs) }
func (c Ungroup) Object() string      { return c.ID.String() }
func (c SetEroute) Object() string    { return c.Selector.String() }
func (c SetPolicy) Object() string    { return c.ID.String() }
func (c DeleteEroute) Object() string { return c.Selector.String() }
func (ClearEroutes) Object() string   { return "" }
func (c Attach) Object() string       { return c.Virtual + " to " + c.Physical }
func (c Detach) Object() string       { return c.Virtual }
func (DetachAll) Object() string      { return "" }
func (c CreateDevice) Object() string { return c.Virtual }
func (c DeleteDevice) Object() string { return c.Virtual }
func (SetDebug) Object() string       { return "" }
func (c SetKnobs) Object() string     { return strings.Join(slices.Sorted(maps.Keys(c.Knobs)), " ") }
func (c SetGuard) Object() string     { return c.Selector.String() }
func (c RemoveGuard) Object() string  { return c.Selector.String() }
func (c HoldPort) Object() string     { return fmt.Sprint(c.Port) }

func (c AddSA) String() string    { return text(c) }
func (c DeleteSA) String() string { return text(c) }
func (c ClearSAs) String() string { return text(c) }
func (c Group) String() string    { return text(c) }
func (c Ungroup) String() string  { return text(c) }
func (c SetEroute) String() string {
	s := text(c) + " => " + c.ID.String()
	if len(c.Also) > 0 {
		s += " also " + JoinSAIDs(c.Also)
	}
	return s
}
func (c SetPolicy) String() string    { return text(c) + ": " + c.Policy.String() }
func (c DeleteEroute) String() string { return text(c) }
func (c ClearEroutes) String() string { return text(c) }
func (c Attach) String() string       { return text(c) }
func (c Detach) String() string       { return text(c) }
func (c DetachAll) String() string    { return text(c) }
func (c CreateDevice) String() string { return text(c) }
func (c DeleteDevice) String() string { return text(c) }
func (c SetDebug) String() string     { return text(c) }
func (c SetKnobs) String() string     { return text(c) }
func (c SetGuard) String() string     { return text(c) }
func (c RemoveGuard) String() string  { return text(c) }
func (c HoldPort) String() string     { return text(c) }

// GoString is String: no verb of package fmt may print the keys.
func (c AddSA) GoString() string { return text(c) }

// text is the printed form of a change.
func text(c Change) string {
	if c.Object() == "" {
		return c.Op()
	}
	return c.Op() + " " + c.Object()
}

// JoinSAIDs joins SAIDs with spaces.
func JoinSAIDs(ids []SAID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = id.String()
	}
	return strings.Join(words, " ")
}

// A Result is the result of changes.
type Result struct {
	// Outcomes are those of the changes that were carried out: the first ones, in their
	// order. The error belongs to the next change.
	Outcomes []Outcome
}

// An Outcome is the result of a change that was carried out.
type Outcome struct {
	// Fault is why the stack drops all packets of an SA that it has made ([AddSA]).
	Fault Fault
	// Before reports that a flow was already guarded ([SetGuard]).
	Before bool
	// OnlyIPv4 reports that a port is held only for IPv4 ([HoldPort]).
	OnlyIPv4 bool
	// NoEffect is why nothing has changed although the kernel reported success
	// ([CreateDevice] and [DeleteDevice] on stack klips); else nil. It is an *[OpError]
	// with [FaultNoEffect]. The classic tools treat it as success.
	NoEffect error
	// Notes are messages for the user, one line each.
	Notes []string
	// MarksLost is why sequence marks are not kept ([CapMarks]): an SA that is made again
	// starts its numbers again. A stack returns it once.
	MarksLost error
}

// Do carries out one change on a stack.
func Do(ctx context.Context, s Stack, c Change) (Outcome, error) {
	r, err := s.Apply(ctx, c)
	if len(r.Outcomes) == 0 {
		return Outcome{}, err
	}
	return r.Outcomes[0], err
}

// ErouteOp returns the operation of PF_KEY's X_ADDFLOW.
func (c SetEroute) ErouteOp() ErouteOp {
	if c.Replace {
		return ErouteReplace
	}
	return ErouteAdd
}

// ErouteOp returns the operation of PF_KEY's X_ADDFLOW.
func (c SetPolicy) ErouteOp() ErouteOp {
	if c.Replace {
		return ErouteReplaceIn
	}
	return ErouteAddIn
}

// ErouteChange returns the change for an X_ADDFLOW with an operation: a [SetEroute], or
// the [SetPolicy] of the SA e.ID.
func ErouteChange(e Eroute, op ErouteOp) Change {
	switch op {
	case ErouteAddIn, ErouteReplaceIn:
		return SetPolicy{ID: e.ID, Policy: e.Selector, Replace: op == ErouteReplaceIn}
	}
	return SetEroute{Eroute: e, Replace: op == ErouteReplace}
}

// Eroute returns the policy in the form of PF_KEY's X_ADDFLOW.
func (c SetPolicy) Eroute() Eroute { return Eroute{Selector: c.Policy, ID: c.ID} }

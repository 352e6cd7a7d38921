package klips

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Change is one thing that a stack is asked to do, as a value: it can be printed,
// checked without a stack and kept until others join it. The types of this file are all
// there are. A Change prints as the Op and the Object; keys are never printed.
type Change interface {
	fmt.Stringer
	// Op names what is done, as [OpError].Op does: "add SA".
	Op() string
	// Object names what it is done to, as [OpError].Object does; empty where that is a
	// whole table.
	Object() string
}

// AddSA makes an SA (SADB_ADD). EEXIST: there is one with that SAID. EINVAL: keys, window
// or combination of algorithms are not possible. EPROTO: the cipher is unknown to the
// stack. EOPNOTSUPP: the stack, its kernel or a device cannot do what is asked.
// EKEYREJECTED: [FaultKeyUsed]. EKEYEXPIRED: [FaultNoNumbers].
//
// The keys stay the caller's: a stack copies them.
type AddSA struct{ *SASpec }

// DeleteSA removes an SA and with it all members of its group; eroutes stay. ESRCH: there
// is none. EBUSY (stack klips): KLIPS would leave an SA that points at what it frees.
type DeleteSA struct{ ID SAID }

// ClearSAs removes all SAs; eroutes stay. EBUSY as for [DeleteSA].
type ClearSAs struct{}

// Group links two to MaxGroup SAs, named from the innermost transform to the outermost.
// Groups that exist may be joined: the end of one is linked to the start of another.
// ENOENT: an SA is missing. EEXIST: the link would give an SA a second neighbour on one
// side, or close a loop.
type Group struct{ IDs []SAID }

// Ungroup takes the whole group that an SA is in apart; the SAs stay. ENOENT: there is no
// such SA. An SA in no group is no error. EBUSY (stack klips): KLIPS would free an SA of
// it.
type Ungroup struct{ ID SAID }

// SetEroute makes an eroute. EEXIST: its selector is there, and Replace is not set. With
// Replace it takes the place of the one with that selector, if there is one (stack klips:
// EFAULT if there is none).
type SetEroute struct {
	Eroute
	Replace bool
}

// SetPolicy gives an SA an inbound policy, in place of the one that it has.
//
// The policy belongs to the first tun SA from the named one on, in processing order.
// Where there is none, it belongs to the last SA: in transport mode that is the one that
// takes off the innermost header. ENOENT: the SA is missing, or there is no tun SA and
// the stack has no [CapTransportPolicy]. EINVAL: the policy would be for an SA in
// transport mode, and the selector is not of its family.
type SetPolicy struct {
	ID     SAID
	Policy InboundPolicy
	// Replace says in PF_KEY that there may be one already (REPLACEFLOW). No stack asks
	// for it.
	Replace bool
}

// DeleteEroute removes the eroute with exactly this selector. ENOENT: there is none (stack
// klips: EFAULT as well).
type DeleteEroute struct{ Selector }

// ClearEroutes removes all eroutes; inbound policies stay.
type ClearEroutes struct{}

// Attach binds a virtual device to a physical one. ENODEV: no such virtual device. ENXIO:
// no such physical device. EBUSY: it is attached.
type Attach struct{ Virtual, Physical string }

// Detach unbinds a virtual device. ENODEV: no such device, or not attached.
type Detach struct{ Virtual string }

// DetachAll unbinds all virtual devices.
type DetachAll struct{}

// CreateDevice makes ipsecN. EEXIST: it is there. ENOENT: N is too large.
type CreateDevice struct{ Virtual string }

// DeleteDevice removes ipsecN. ENOENT: there is none.
type DeleteDevice struct{ Virtual string }

// SetDebug changes the debug masks. EOPNOTSUPP: the stack has none ([CapDebug]).
type SetDebug struct{ DebugChange }

// SetKnobs sets knobs by name, all or none, from the next packet on. ENOENT: there is none
// of a name. EINVAL: a value is not one of the knob's. EOPNOTSUPP: the stack has no knobs
// ([CapKnobs]), or a knob closes what its kernel cannot close.
type SetKnobs struct{ Knobs map[string]int }

// SetGuard guards a flow from now on; see [Guard]. That it was guarded before is no error:
// [Outcome].Before. EOPNOTSUPP: the stack or its kernel has no packet filter (nftables)
// that can do it ([CapGuard]).
type SetGuard struct{ Guard }

// RemoveGuard ends that for the flow with exactly this selector. ENOENT: it was not
// guarded. EOPNOTSUPP as for [SetGuard].
type RemoveGuard struct{ Selector }

// HoldPort opens a UDP port, so that a kernel takes ESP out of its packets, in the network
// namespace of the calling thread: until the [Stack] is closed. What comes to it and is
// not ESP is dropped. Form is NATTNonESP or NATTNonIKE. EADDRINUSE: another program has
// it. EOPNOTSUPP: the stack opens the ports of its SAs itself ([CapHoldPort]).
type HoldPort struct {
	Port uint16
	Form NATTType
}

// What the changes are called.

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

func (c AddSA) String() string        { return text(c) }
func (c DeleteSA) String() string     { return text(c) }
func (c ClearSAs) String() string     { return text(c) }
func (c Group) String() string        { return text(c) }
func (c Ungroup) String() string      { return text(c) }
func (c SetEroute) String() string    { return text(c) + " => " + c.ID.String() }
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

// GoString is String: the keys must not be printed by any verb of package fmt.
func (c AddSA) GoString() string { return text(c) }

// text is the words for a change.
func text(c Change) string {
	if c.Object() == "" {
		return c.Op()
	}
	return c.Op() + " " + c.Object()
}

// JoinSAIDs writes SAIDs with spaces between.
func JoinSAIDs(ids []SAID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = id.String()
	}
	return strings.Join(words, " ")
}

// A Result is what became of changes.
type Result struct {
	// Outcomes are those of the changes that were carried out: the first ones, in their
	// order. The error is about the one after them.
	Outcomes []Outcome
}

// An Outcome is what there is to know of a change that was carried out.
type Outcome struct {
	// Fault is why the stack drops all packets of an SA that it has made ([AddSA]).
	Fault Fault
	// Before reports that a flow was guarded before ([SetGuard]).
	Before bool
	// OnlyIPv4 reports that a port is held for IPv4 alone ([HoldPort]).
	OnlyIPv4 bool
	// NoEffect is why nothing has changed although the kernel answered that it is done
	// ([CreateDevice] and [DeleteDevice] on stack klips); else nil. It is an *[OpError]
	// with [FaultNoEffect]. The classic tools took that for success.
	NoEffect error
	// Notes are what a person should know: one line each.
	Notes []string
	// MarksLost is why sequence marks are not kept ([CapMarks]): an SA that is made again
	// starts its numbers again. A stack returns it once.
	MarksLost error
}

// Do has a stack carry out one change.
func Do(ctx context.Context, s Stack, c Change) (Outcome, error) {
	r, err := s.Apply(ctx, c)
	if len(r.Outcomes) == 0 {
		return Outcome{}, err
	}
	return r.Outcomes[0], err
}

// ErouteOp is the operation of PF_KEY's X_ADDFLOW.
func (c SetEroute) ErouteOp() ErouteOp {
	if c.Replace {
		return ErouteReplace
	}
	return ErouteAdd
}

// ErouteOp is the operation of PF_KEY's X_ADDFLOW.
func (c SetPolicy) ErouteOp() ErouteOp {
	if c.Replace {
		return ErouteReplaceIn
	}
	return ErouteAddIn
}

// ErouteChange is the change that X_ADDFLOW asks for with an operation: a [SetEroute], or
// the [SetPolicy] of the SA e.ID.
func ErouteChange(e Eroute, op ErouteOp) Change {
	switch op {
	case ErouteAddIn, ErouteReplaceIn:
		return SetPolicy{ID: e.ID, Policy: e.Selector, Replace: op == ErouteReplaceIn}
	}
	return SetEroute{Eroute: e, Replace: op == ErouteReplace}
}

// Eroute is the policy as PF_KEY's X_ADDFLOW has it.
func (c SetPolicy) Eroute() Eroute { return Eroute{Selector: c.Policy, ID: c.ID} }

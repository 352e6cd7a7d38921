package klips

import (
	"context"
	"net/netip"
)

// A Guard is a flow that must not pass in clear, whatever becomes of the stack, its
// devices and the routes into them. It outlives all of these.
type Guard struct {
	Selector // of the packets that leave
	// In: their answers must not arrive in clear either.
	In bool `json:"in,omitempty"`
	// Peer is the far end: the stack and key daemons can talk to it. Not valid: there
	// is none.
	Peer netip.Addr `json:"peer,omitzero"`
}

// Guardian is a stack that guards flows. Errors are EOPNOTSUPP where the kernel has
// no packet filter (nftables) that can do it.
type Guardian interface {
	// Guard guards a flow. was reports whether it was guarded before, which is no
	// error.
	Guard(ctx context.Context, g Guard) (was bool, err error)
	// Unguard ends that for the flow with exactly this selector. ENOENT: it was not
	// guarded.
	Unguard(ctx context.Context, s Selector) error
}

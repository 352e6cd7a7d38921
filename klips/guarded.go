package klips

import "net/netip"

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

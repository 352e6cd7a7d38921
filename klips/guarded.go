package klips

import "net/netip"

// A Guard is a flow that must not pass in clear, whatever happens to the stack, its
// devices and the routes into them. It outlives all of these.
type Guard struct {
	Selector // of the packets that leave
	// In: answers must not arrive in clear either.
	In bool `json:"in,omitempty"`
	// Peer is the remote end of the tunnel: the stack and key daemons can exchange
	// packets with it. Not valid: there is none.
	Peer netip.Addr `json:"peer,omitzero"`
}

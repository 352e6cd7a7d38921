package engine

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// A View is what a packet filter must know of the engine to guard its flows.
type View struct {
	// Eroutes are the eroutes to %pass, and with OutClosed also all others.
	Eroutes []klips.Eroute
	// OutClosed: packets that eroutes protect must not leave in clear (outbound_clear).
	OutClosed bool
	// Policies are the inbound policies, if packets need one to be accepted
	// (inbound_policy_required).
	Policies []klips.Selector
	Peers    []netip.Addr // the far ends of SAs
	Ports    []uint16     // the local UDP ports that ESP arrives at
}

// Closes reports whether the knobs need a packet filter.
func (e *Engine) Closes() bool { return e.knobs.outClear.on() || e.knobs.needPolicy.on() }

// View returns what a packet filter must know.
func (e *Engine) View() View {
	v := View{OutClosed: e.knobs.outClear.on(), Peers: e.sas.FarEnds(), Ports: e.ports.list()}
	for _, r := range e.routes.All() {
		if d := r.Eroute(); v.OutClosed || d.ID == klips.Magic(klips.SPIPass) {
			v.Eroutes = append(v.Eroutes, d)
		}
	}
	if e.knobs.needPolicy.on() {
		for _, sa := range e.sas.All() {
			if p := sa.Policy(); p != nil && sa.Dir.Receives() {
				v.Policies = append(v.Policies, *p)
			}
		}
	}
	return v
}

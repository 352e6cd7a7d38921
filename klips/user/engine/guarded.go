package engine

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// A View is what the engine protects, as a packet filter beside it has to know it.
type View struct {
	// Eroutes are those that the filter must know: to %pass, and where OutClosed all
	// others, too.
	Eroutes []klips.Eroute
	// OutClosed: what the eroutes protect must not leave in clear (outbound_clear).
	OutClosed bool
	// Policies are the inbound policies, if without a policy nothing is accepted
	// (inbound_policy_required).
	Policies []klips.Selector
	Peers    []netip.Addr // the far ends of SAs
	Ports    []uint16     // the UDP ports that ESP comes to
}

// Closes reports whether the knobs ask for a filter.
func (e *Engine) Closes() bool { return e.knobs.outClear.on() || e.knobs.needPolicy.on() }

// View returns what a packet filter has to know.
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

package manual

import (
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
)

// close returns the steps that keep the flow of the connection from leaving in clear,
// even if the stack or the routes go away. They come before the routes. open undoes
// them.
func (k *connection) close(at *situation) (steps []step.Step) {
	if k.shunt == "%pass" {
		return nil
	}
	steps = append(steps, step.Step{Guard: k.guard()})
	if k.me().updown != "" || at != nil && at.past {
		return steps // the script makes the routes
	}
	for _, dst := range k.backstops() {
		switch {
		case k.far(dst, at):
		case at == nil || !slices.Contains(at.backstops, dst):
			steps = append(steps, step.Step{Backstop: &dst})
		}
	}
	// A backstop of another connection would take packets to this peer: the kernel
	// would not use the route through the physical device, to which those packets are
	// bound.
	if at != nil && k.shunt == "" {
		for _, dst := range at.backstops {
			if dst.Contains(k.peer().addr) {
				steps = append(steps, step.Step{Backstop: &dst, Remove: true, IfExists: true})
			}
		}
	}
	return steps
}

// open returns the steps that undo close. If the flow needs no route and the connection
// is up, it stays closed.
func (k *connection) open(operation string, at *situation) (steps []step.Step) {
	if k.shunt == "%pass" || operation == "unroute" && at != nil && at.past && at.flow().own() && !at.held() {
		return nil
	}
	if k.me().updown == "" {
		for _, dst := range k.backstops() {
			if !k.far(dst, nil) {
				steps = append(steps, step.Step{Backstop: &dst, Remove: true, IfExists: true})
			}
		}
	}
	return append(steps, step.Step{Guard: k.guard(), Remove: true, IfExists: true})
}

// guard returns the guard for the flow of the connection.
func (k *connection) guard() *klips.Guard {
	g := &klips.Guard{Selector: k.selector()}
	if k.shunt == "" {
		g.In, g.Peer = true, k.peer().addr
	}
	return g
}

// backstops returns the networks that get a backstop.
func (k *connection) backstops() []netip.Prefix { return halves(k.peer().subnet) }

// far reports whether a network contains the far end of an SA, of this connection or of
// any other: a backstop would stop the protected packets to it.
func (k *connection) far(dst netip.Prefix, at *situation) bool {
	if k.shunt == "" && dst.Contains(k.peer().addr) {
		return true
	}
	if at == nil {
		return false
	}
	for _, sa := range at.sas {
		if sa.Dir.Sends() && dst.Contains(sa.ID.Dst) {
			return true
		}
	}
	return false
}

// Package step has the steps of an operation on a connection as values. A [Step] can be written
// as a line for a shell, and a [Runner] carries out steps and takes them back. Neither knows
// what a connection is.
package step

import (
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/clamp"
)

// A Step is one action: a change of the stack, the call of a script, or a change of the
// host's routes or devices.
type Step struct {
	// SA is an SA to be made, Change is any other change of the stack. Label appears in
	// their messages.
	SA     *spi.Description
	Change klips.Change
	Label  string
	// Script is a command for sh, which is called with PLUTO_VERB set to Verb.
	Script, Verb string
	// Route is a route that is added, replaces another one, or is removed.
	Route   *routes.Route
	Replace bool
	// Guard is a flow whose guard is added or removed.
	Guard *klips.Guard
	// Backstop is a network that gets a backstop, see package routes.
	Backstop *netip.Prefix
	// Clamp lowers the segment size that TCP announces, or no longer does so.
	Clamp *clamp.Clamp
	// Device gets Address, or MTU, or is set up if there is neither. Remove does the
	// reverse of the first and the last.
	Device  string
	Address *netip.Prefix
	MTU     int // bytes
	Remove  bool

	// IfExists: a missing object is not an error.
	IfExists bool
	// Undo reverses the step.
	Undo []Step
}

// opens reports whether a step removes what keeps a flow closed.
func (s *Step) opens() bool { return s.Remove && (s.Guard != nil || s.Backstop != nil) }

// A Plan is the list of steps of an operation.
type Plan struct {
	Environ []string // NAME=VALUE, for scripts
	Steps   []Step
}

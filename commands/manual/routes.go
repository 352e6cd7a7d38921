package manual

import (
	"errors"

	"github.com/klips-go/ipsec/commands/internal/routes"
)

// A router changes the routes of the main table.
type router interface {
	// add adds a route. EEXIST: there is one to that network.
	add(r routes.Route) error
	// remove removes the first route that fits, and returns how to put exactly
	// that back. ESRCH: there is none.
	remove(r routes.Route) (back func() error, err error)
}

// kernel is the routing table of the kernel.
type kernel struct{}

var _ router = kernel{}

func (kernel) add(r routes.Route) error                    { return routes.Add(r) }
func (kernel) remove(r routes.Route) (func() error, error) { return routes.Remove(r) }

var errNoDefault = errors.New("no default route")

// findDefault returns the default route with the lowest metric that does not
// lead into a virtual device.
func findDefault(is6 bool) (best routes.Route, err error) {
	list, err := routes.List()
	if err != nil {
		return best, err
	}
	err = errNoDefault
	for _, r := range list {
		if r.Dst.Addr().Is6() != is6 || r.Dst.Bits() != 0 || isVirtual(r.Device) || r.Device == "" {
			continue
		}
		if err != nil || r.Metric < best.Metric {
			best, err = r, nil
		}
	}
	return best, err
}

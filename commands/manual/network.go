package manual

import (
	"errors"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/routes"
)

// A network has the routes of the host's main table and its devices.
type network interface {
	// list returns the routes.
	list() ([]routes.Route, error)
	// add adds a route. EEXIST: there is a route to that network.
	add(r routes.Route) error
	// replace replaces the route that packets take, in one step, and returns the old
	// route; ok is false if there was none.
	replace(r routes.Route) (old routes.Route, ok bool, err error)
	// remove removes the first matching route, and returns it. ESRCH: there is none.
	remove(r routes.Route) (old routes.Route, err error)
	// backstops lists the networks that have a backstop, see package routes; was
	// reports whether there was one before.
	backstops() ([]netip.Prefix, error)
	addBackstop(dst netip.Prefix) (was bool, err error)
	removeBackstop(dst netip.Prefix) error
	// exit returns the device through which packets to a network leave; "": they do not
	// leave.
	exit(dst netip.Prefix) (device string, err error)
	// isUp reports whether a device is up. ENODEV: there is no such device.
	isUp(device string) (bool, error)
	// setUp brings a device up or down.
	setUp(device string, up bool) error
	// addresses returns the addresses of a device.
	addresses(device string) ([]netip.Prefix, error)
	addAddress(device string, p netip.Prefix) error
	removeAddress(device string, p netip.Prefix) error
}

// hostNetwork is the network of the host that this program runs on.
type hostNetwork struct{}

var _ network = hostNetwork{}

func (hostNetwork) list() ([]routes.Route, error)                   { return routes.List() }
func (hostNetwork) add(r routes.Route) error                        { return routes.Add(r) }
func (hostNetwork) remove(r routes.Route) (routes.Route, error)     { return routes.Remove(r) }
func (hostNetwork) backstops() ([]netip.Prefix, error)              { return routes.Backstops() }
func (hostNetwork) addBackstop(dst netip.Prefix) (bool, error)      { return routes.AddBackstop(dst) }
func (hostNetwork) removeBackstop(dst netip.Prefix) error           { return routes.RemoveBackstop(dst) }
func (hostNetwork) exit(dst netip.Prefix) (string, error)           { return routes.Exit(dst) }
func (hostNetwork) isUp(device string) (bool, error)                { return links.IsUp(device) }
func (hostNetwork) setUp(device string, up bool) error              { return links.SetUp(device, up) }
func (hostNetwork) addresses(device string) ([]netip.Prefix, error) { return addresses(device) }
func (hostNetwork) replace(r routes.Route) (routes.Route, bool, error) {
	return routes.Replace(r)
}
func (hostNetwork) addAddress(device string, p netip.Prefix) error {
	return links.AddAddress(device, p)
}
func (hostNetwork) removeAddress(device string, p netip.Prefix) error {
	return links.RemoveAddress(device, p)
}

var errNoDefault = errors.New("no default route")

// findDefault returns the default route with the lowest metric that does not lead into
// a virtual device.
func findDefault(is6 bool) (best routes.Route, err error) {
	list, err := routes.List()
	if err != nil {
		return best, err
	}
	err = errNoDefault
	for _, r := range list {
		if r.Dst.Addr().Is6() != is6 || r.Dst.Bits() != 0 || links.IsVirtual(r.Device) || r.Device == "" {
			continue
		}
		if err != nil || r.Metric < best.Metric {
			best, err = r, nil
		}
	}
	return best, err
}

package host

import (
	"errors"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips/clamp"
)

// A Network has the routes of the host's main table and its devices. Its errors wrap the
// errnos of the kernel.
type Network interface {
	// List returns the routes.
	List() ([]routes.Route, error)
	// Add adds a route. EEXIST: there is a route to that network.
	Add(r routes.Route) error
	// Replace replaces the route that packets take, in one step, and returns the old
	// route; ok is false if there was none.
	Replace(r routes.Route) (old routes.Route, ok bool, err error)
	// Remove removes the first matching route, and returns it. ESRCH: there is none.
	Remove(r routes.Route) (old routes.Route, err error)
	// Backstops lists the networks that have a backstop, see package routes. AddBackstop
	// gives a network one; was reports whether there was one before. RemoveBackstop removes
	// it. ESRCH: there is none.
	Backstops() ([]netip.Prefix, error)
	AddBackstop(dst netip.Prefix) (was bool, err error)
	RemoveBackstop(dst netip.Prefix) error
	// Exit returns the device through which packets to a network leave; "": they do not
	// leave.
	Exit(dst netip.Prefix) (device string, err error)
	// IsUp reports whether a device is up. ENODEV: there is no such device.
	IsUp(device string) (bool, error)
	// SetUp brings a device up or down.
	SetUp(device string, up bool) error
	// MTU returns the MTU of a device, in bytes. ENODEV: there is no such device.
	MTU(device string) (int, error)
	// SetMTU changes it. EINVAL: the device cannot have it.
	SetMTU(device string, mtu int) error
	// SetClamp and RemoveClamp do what the methods of [clamp.Clamp] do.
	SetClamp(c clamp.Clamp) error
	RemoveClamp(c clamp.Clamp) error
	// Addresses returns the addresses of a device, AddAddress adds one, and RemoveAddress
	// removes one. EADDRNOTAVAIL: the device does not have it.
	Addresses(device string) ([]netip.Prefix, error)
	AddAddress(device string, p netip.Prefix) error
	RemoveAddress(device string, p netip.Prefix) error
}

// hostNetwork is the network of the host that this program runs on.
type hostNetwork struct{}

var _ Network = hostNetwork{}

func (hostNetwork) List() ([]routes.Route, error)                   { return routes.List() }
func (hostNetwork) Add(r routes.Route) error                        { return routes.Add(r) }
func (hostNetwork) Remove(r routes.Route) (routes.Route, error)     { return routes.Remove(r) }
func (hostNetwork) Backstops() ([]netip.Prefix, error)              { return routes.Backstops() }
func (hostNetwork) AddBackstop(dst netip.Prefix) (bool, error)      { return routes.AddBackstop(dst) }
func (hostNetwork) RemoveBackstop(dst netip.Prefix) error           { return routes.RemoveBackstop(dst) }
func (hostNetwork) Exit(dst netip.Prefix) (string, error)           { return routes.Exit(dst) }
func (hostNetwork) IsUp(device string) (bool, error)                { return links.IsUp(device) }
func (hostNetwork) SetUp(device string, up bool) error              { return links.SetUp(device, up) }
func (hostNetwork) Addresses(device string) ([]netip.Prefix, error) { return addresses(device) }
func (hostNetwork) MTU(device string) (int, error)                  { return links.MTU(device) }
func (hostNetwork) SetMTU(device string, mtu int) error             { return links.SetMTU(device, mtu) }
func (hostNetwork) SetClamp(c clamp.Clamp) error                    { return c.Set() }
func (hostNetwork) RemoveClamp(c clamp.Clamp) error                 { return c.Remove() }
func (hostNetwork) Replace(r routes.Route) (routes.Route, bool, error) {
	return routes.Replace(r)
}
func (hostNetwork) AddAddress(device string, p netip.Prefix) error {
	return links.AddAddress(device, p)
}
func (hostNetwork) RemoveAddress(device string, p netip.Prefix) error {
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

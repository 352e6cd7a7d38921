// Package host is the machine as connections need it: its addresses, routes and devices, and
// the records that it keeps of connections. Commands get it as two interfaces, so that a test
// can replace the machine.
package host

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/epochs"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/sysctls"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A Host has the facts about the host that a connection needs.
type Host interface {
	// LookUp returns an address of a named host, of the family f.
	LookUp(name string, f syntax.Family) (netip.Addr, error)
	// DefaultRoute returns the default route of a family. The error is a line for people: there
	// is none, or no address goes with it.
	DefaultRoute(is6 bool) (followed.Route, error)
	// DefaultDevice returns the device of the default route. It prefers IPv4.
	DefaultDevice() (string, error)
	// Identities returns two lists. own has the addresses of virtual devices and of
	// their physical devices, attached now or by the bindings. rest has all other
	// addresses of the host, with the device that would serve them.
	Identities(bindings []Binding) (own, rest []Identity, err error)
	// DeviceOf returns the device, other than a virtual device, that has an address; ""
	// if there is none.
	DeviceOf(a netip.Addr) string
	// Reaches reports whether a route through the device can have hop as its gateway.
	// It returns true if the device is unknown.
	Reaches(device string, hop netip.Addr) bool
	// Follow opens and locks the stored connections that follow the default route. makeIt
	// makes the directory for them if there is none; otherwise it is nil. The caller closes
	// it.
	Follow(makeIt bool) (*followed.Dir, error)
	// Made does the same for the records of what was made of connections. It is also nil if
	// this host keeps none.
	Made(makeIt bool) (*made.Dir, error)
	// Epochs returns the epochs that connections have reached on this host, and RaiseEpoch
	// stores a later one.
	Epochs() (epochs.List, error)
	RaiseEpoch(name string, epoch uint32) error
	// SetControls sets parameters of the kernel until the stack stops.
	SetControls(list []sysctls.Setting) error
	// StartFollowing starts the process that sets them up again when the default route
	// changes, unless it runs or the stack has no daemon.
	StartFollowing() error
}

// An Identity is an address of this host and its virtual device.
type Identity struct {
	Addr   netip.Addr
	Device string
}

// ParseIdentity parses ADDR@IFACE. The error is a line for people.
func ParseIdentity(text string) (Identity, error) {
	a, device, ok := strings.Cut(text, "@")
	if !ok {
		return Identity{}, errors.New("write an address and a virtual device, as in 192.0.2.1@ipsec0")
	}
	addr, err := syntax.ParseAddr(a, syntax.FamilyAny, nil)
	if err != nil {
		return Identity{}, err
	}
	if !links.IsVirtual(device) {
		return Identity{}, errors.New("a virtual device follows @: ipsec0 to ipsec63")
	}
	return Identity{addr, device}, nil
}

package manual

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/user"
)

// A host has the facts about the host that a connection needs.
type host interface {
	// defaultRoute returns the default route of a family.
	defaultRoute(is6 bool) (followed.Route, error)
	// defaultDevice returns the device of the default route. It prefers IPv4.
	defaultDevice() (string, error)
	// identities returns two lists. own has the addresses of virtual devices and of
	// their physical devices, attached now or by the bindings. rest has all other
	// addresses of the host, with the device that would serve them.
	identities(bindings []binding) (own, rest []identity, err error)
	// deviceOf returns the device, other than a virtual device, that has an address; ""
	// if there is none.
	deviceOf(a netip.Addr) string
	// reaches reports whether a route through the device can have hop as its gateway.
	// It returns true if the device is unknown.
	reaches(device string, hop netip.Addr) bool
	// follow opens and locks the stored connections that follow the default route.
	follow() (*followed.Dir, error)
	// startFollowing starts the process that sets them up again when the default route
	// changes, unless it runs or the stack has no daemon.
	startFollowing() error
}

// An identity is an address of this host and its virtual device.
type identity struct {
	addr   netip.Addr
	device string
}

// whoAmI finds out which end this host is.
func (k *connection) whoAmI(c *conf.Conn, h host, me identity) error {
	lists := [2][]identity{{me}}
	if !me.addr.IsValid() {
		var err error
		if lists[0], lists[1], err = h.identities(k.bindings); err != nil {
			return err
		}
	}
	for _, list := range lists {
		var found []identity
		for _, i := range list {
			if (k.ends[0].is(i.addr) || k.ends[1].is(i.addr)) && !slices.Contains(found, i) {
				found = append(found, i)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			k.iface = found[0].device
			if k.ends[1].is(found[0].addr) {
				k.local = 1
			}
			return nil
		}
		return c.Errorf("it is ambiguous which end this is: %s on %s or %s on %s; say it with --iam ADDR@IFACE",
			klips.FormatAddr(found[0].addr), found[0].device, klips.FormatAddr(found[1].addr), found[1].device)
	}
	l, r := k.ends[0].text(), k.ends[1].text()
	if me.addr.IsValid() {
		return c.Errorf("--iam %s@%s: it is neither left (%s) nor right (%s)", klips.FormatAddr(me.addr), me.device, l, r)
	}
	return c.Errorf("this host is neither left (%s) nor right (%s); ip addr lists its addresses, --iam ADDR@IFACE gives one", l, r)
}

// is reports whether a is the address of the end.
func (e *end) is(a netip.Addr) bool { return !e.any && e.addr == a }

// text returns the words for the end.
func (e *end) text() string {
	if e.any {
		return "any address"
	}
	return klips.FormatAddr(e.addr)
}

// parseIdentity parses ADDR@IFACE.
func parseIdentity(text string) (identity, error) {
	a, device, ok := strings.Cut(text, "@")
	if !ok {
		return identity{}, errors.New("write an address and a virtual device, as in 192.0.2.1@ipsec0")
	}
	addr, err := syntax.ParseAddr(a, syntax.FamilyAny, nil)
	if err != nil {
		return identity{}, err
	}
	if !links.IsVirtual(device) {
		return identity{}, errors.New("a virtual device follows @: ipsec0 to ipsec63")
	}
	return identity{addr, device}, nil
}

// system is the host that this program runs on.
type system struct {
	ctx context.Context
	env *cli.Env
}

var _ host = system{}

func (s system) defaultRoute(is6 bool) (followed.Route, error) {
	family := "IPv4"
	if is6 {
		family = "IPv6"
	}
	r, err := findDefault(is6)
	switch {
	case errors.Is(err, errNoDefault):
		return followed.Route{}, fmt.Errorf("this host has no %s default route; give the address itself", family)
	case err != nil:
		return followed.Route{}, fmt.Errorf("the %s default route: %w", family, err)
	case r.Src.IsValid():
		return followed.Route{Local: r.Src, Gateway: r.Gateway, Device: r.Device}, nil
	}
	// The address of the device in the gateway's network, else its first address.
	prefixes, err := addresses(r.Device)
	if err != nil {
		return followed.Route{}, fmt.Errorf("the %s default route: %w", family, err)
	}
	best := followed.Route{Gateway: r.Gateway, Device: r.Device}
	for _, p := range prefixes {
		if p.Addr().Is6() != is6 || p.Addr().IsLinkLocalUnicast() && !r.Gateway.IsLinkLocalUnicast() && is6 {
			continue
		}
		if !best.Local.IsValid() || r.Gateway.IsValid() && p.Contains(r.Gateway) && !p.Addr().IsLinkLocalUnicast() {
			best.Local = p.Addr()
		}
	}
	if !best.Local.IsValid() {
		return best, fmt.Errorf("%s, where the %s default route leads, has no such address; give the address itself", r.Device, family)
	}
	return best, nil
}

func (s system) follow() (*followed.Dir, error) {
	rundir, err := environ.Rundir(s.env.Getenv)
	if err != nil {
		return nil, err
	}
	return followed.Open(rundir)
}

func (s system) startFollowing() error {
	if n := s.env.StackName; n != "" && n != "user" {
		return nil
	}
	rundir, err := environ.Rundir(s.env.Getenv)
	if err != nil {
		return err
	}
	dir, err := user.OpenDir(rundir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if pid, err := dir.Holder(); err != nil || pid == 0 {
		return err
	}
	log, err := dir.OpenLog()
	if err != nil {
		return err
	}
	defer log.Close()
	return followed.Start(rundir, followed.Now, log)
}

func (s system) defaultDevice() (string, error) {
	for _, is6 := range []bool{false, true} {
		if r, err := findDefault(is6); err == nil {
			return r.Device, nil
		} else if !errors.Is(err, errNoDefault) {
			return "", err
		}
	}
	return "", errors.New("this host has no default route")
}

func (s system) deviceOf(a netip.Addr) string {
	ifs, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range ifs {
		prefixes, err := addresses(i.Name)
		if err == nil && !links.IsVirtual(i.Name) && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return i.Name
		}
	}
	return ""
}

// addresses returns the addresses of a device.
func addresses(device string) ([]netip.Prefix, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	list, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	var prefixes []netip.Prefix
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			addr, _ := netip.AddrFromSlice(n.IP)
			bits, _ := n.Mask.Size()
			prefixes = append(prefixes, netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	return prefixes, nil
}

func (s system) identities(bindings []binding) (own, rest []identity, err error) {
	virtual := map[string][]string{} // by physical device
	attached := map[string]bool{}    // virtual devices
	fallback := ""
	// Without a stack, use the devices' own addresses.
	if stack, err := s.env.Stack(s.ctx); err == nil {
		devices, err := klips.ReadDevices(s.ctx, stack)
		stack.Close()
		if err == nil {
			for _, d := range devices {
				if d.Physical == "" {
					continue
				}
				virtual[d.Physical] = append(virtual[d.Physical], d.Name)
				attached[d.Name] = true
				if fallback == "" {
					fallback = d.Name
				}
			}
		}
	}
	for _, b := range bindings {
		if b.physical != "" && !attached[b.virtual] && virtual[b.physical] == nil {
			virtual[b.physical] = []string{b.virtual}
		}
		if fallback == "" {
			fallback = b.virtual
		}
	}
	if fallback == "" {
		fallback = "ipsec0"
	}
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, nil, err
	}
	for _, i := range ifs {
		prefixes, err := addresses(i.Name)
		if err != nil {
			continue // the device has been removed
		}
		devices := virtual[i.Name]
		if links.IsVirtual(i.Name) {
			devices = []string{i.Name}
		}
		for _, p := range prefixes {
			for _, d := range devices {
				own = append(own, identity{p.Addr(), d})
			}
			if devices == nil {
				rest = append(rest, identity{p.Addr(), fallback})
			}
		}
	}
	return own, rest, nil
}

func (s system) reaches(device string, hop netip.Addr) bool {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return true
	}
	if i.Flags&net.FlagPointToPoint != 0 {
		return false
	}
	prefixes, err := addresses(device)
	if err != nil {
		return true
	}
	for _, p := range prefixes {
		if p.Contains(hop) {
			return true
		}
	}
	return false
}

package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/epochs"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/sysctls"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/user"
)

// This returns the host that this program runs on, and its network. The host uses ctx and env
// until the command ends: its run directory, its stack, and the resolver of names.
func This(ctx context.Context, env *cli.Env) (Host, Network) { return system{ctx, env}, hostNetwork{} }

// system is the host that this program runs on.
type system struct {
	ctx context.Context
	env *cli.Env
}

var _ Host = system{}

func (s system) LookUp(name string, f syntax.Family) (netip.Addr, error) {
	if s.env.Resolver == nil {
		return netip.Addr{}, errors.New("no names are looked up here")
	}
	return s.env.Resolver(name, f)
}

func (s system) DefaultRoute(is6 bool) (followed.Route, error) {
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

func (s system) Follow(makeIt bool) (*followed.Dir, error) {
	if makeIt {
		return inRundir(s, followed.Make)
	}
	return inRundir(s, followed.Open)
}

func (s system) Made(makeIt bool) (*made.Dir, error) {
	if makeIt {
		return inRundir(s, made.Make)
	}
	return inRundir(s, made.Open)
}

// inRundir opens something in the run directory of this host.
func inRundir[T any](s system, open func(rundir string) (*T, error)) (*T, error) {
	rundir, err := environ.Rundir(s.env.Getenv)
	if err != nil {
		return nil, err
	}
	return open(rundir)
}

func (s system) SetControls(list []sysctls.Setting) error {
	rundir, err := environ.Rundir(s.env.Getenv)
	if err != nil {
		return err
	}
	return sysctls.Set(rundir, list)
}

func (s system) Epochs() (epochs.List, error) {
	dir := environ.Statedir(s.env.Getenv)
	if dir == "" {
		return nil, nil
	}
	return epochs.Read(dir)
}

func (s system) RaiseEpoch(name string, epoch uint32) error {
	dir := environ.Statedir(s.env.Getenv)
	if dir == "" {
		return nil // this stack is not the machine's own, and keeps no marks either
	}
	return epochs.Raise(dir, name, epoch)
}

func (s system) StartFollowing() error {
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

func (s system) DefaultDevice() (string, error) {
	for _, is6 := range []bool{false, true} {
		if r, err := findDefault(is6); err == nil {
			return r.Device, nil
		} else if !errors.Is(err, errNoDefault) {
			return "", err
		}
	}
	return "", errors.New("this host has no default route")
}

func (s system) DeviceOf(a netip.Addr) string {
	ifs, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range ifs {
		prefixes, err := addressesOf(&i)
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
	return addressesOf(i)
}

func addressesOf(i *net.Interface) ([]netip.Prefix, error) {
	list, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.Name, err)
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

func (s system) Identities(bindings []Binding) (own, rest []Identity, err error) {
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
		if b.Physical != "" && !attached[b.Virtual] && virtual[b.Physical] == nil {
			virtual[b.Physical] = []string{b.Virtual}
		}
		if fallback == "" {
			fallback = b.Virtual
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
		prefixes, err := addressesOf(&i)
		if err != nil {
			continue // they are not known
		}
		devices := virtual[i.Name]
		if links.IsVirtual(i.Name) {
			devices = []string{i.Name}
		}
		for _, p := range prefixes {
			for _, d := range devices {
				own = append(own, Identity{p.Addr(), d})
			}
			if devices == nil {
				rest = append(rest, Identity{p.Addr(), fallback})
			}
		}
	}
	return own, rest, nil
}

func (s system) Reaches(device string, hop netip.Addr) bool {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return true
	}
	if i.Flags&net.FlagPointToPoint != 0 {
		return false
	}
	prefixes, err := addressesOf(i)
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

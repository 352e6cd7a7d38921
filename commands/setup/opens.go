package setup

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/routes"
)

// A network has the routes of the host, to find what a stop opens.
type network interface {
	// into lists the networks that are routed into virtual devices.
	into() ([]netip.Prefix, error)
	// exit returns the device through which packets to a network leave; "": they do not
	// leave.
	exit(dst netip.Prefix) (device string, err error)
}

// hostNetwork is the network of the host that this program runs on.
type hostNetwork struct{}

func (hostNetwork) exit(dst netip.Prefix) (string, error) { return routes.Exit(dst) }

func (hostNetwork) into() (list []netip.Prefix, err error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var virtual []string
	for _, i := range ifs {
		if links.IsVirtual(i.Name) {
			virtual = append(virtual, i.Name)
		}
	}
	all, err := routes.Into(virtual...)
	for _, r := range all {
		list = append(list, r.Dst)
	}
	return list, err
}

// maxNamed is how many opened networks a note names.
const maxNamed = 4

// opening carries out an action that can end protection, and prints a note about the
// networks whose packets were protected or dropped before and leave in clear now. held
// are networks that the stack protects without a route into a virtual device.
func opening(ctx context.Context, env *cli.Env, n network, held []netip.Prefix, action func(context.Context) error) error {
	closed := slices.Clone(held)
	// If the routes cannot be read, there is no note about them.
	if list, err := n.into(); err == nil {
		for _, dst := range list {
			if !slices.Contains(closed, dst) && !passes(n, dst) {
				closed = append(closed, dst)
			}
		}
	}
	err := action(ctx)
	opened := widest(slices.DeleteFunc(closed, func(dst netip.Prefix) bool { return !passes(n, dst) }))
	for i, dst := range opened {
		if rest := len(opened) - i; i == maxNamed-1 && rest > 1 {
			cli.Notef(env, "and %d more networks can leave in clear now", rest)
			break
		}
		cli.Notef(env, "%v can leave in clear now", dst)
	}
	return err
}

// widest leaves out the networks that lie in other networks of the list.
func widest(l []netip.Prefix) (w []netip.Prefix) {
	for i, p := range l {
		if !slices.ContainsFunc(l, func(o netip.Prefix) bool { return o.Bits() < p.Bits() && o.Contains(p.Addr()) }) && !slices.Contains(l[:i], p) {
			w = append(w, p)
		}
	}
	return w
}

// passes reports whether packets to a network leave past the virtual devices.
func passes(n network, dst netip.Prefix) bool {
	device, err := n.exit(dst)
	return err == nil && device != "" && !links.IsVirtual(device)
}

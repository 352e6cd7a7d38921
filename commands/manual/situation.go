package manual

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
)

// A situation is the state of a stack and of the host's routes before an operation, as
// seen from one connection.
type situation struct {
	*snapshot
	objects []object
	routes  []routes.Route
	// backstops are the networks that have a backstop, see package routes.
	backstops []netip.Prefix
	// past: the packets must not be routed into a virtual device.
	past bool
	// admits: the stack accepts the connection's inbound policy.
	admits bool
	mtu    int // of the virtual device; 0: there is none
	// copiesTOS: the stack can copy the TOS for one tunnel.
	copiesTOS bool

	// with are flows whose eroutes need no route, besides that of the connection: they are
	// taken down, or changed, together with it.
	with []klips.Selector

	stack string                      // its name
	has   func(klips.Capability) bool // of the stack
}

// look reads the situation of a connection.
func look(ctx context.Context, stack klips.Stack, k *connection, n host.Network) (*situation, error) {
	s, err := readSnapshot(ctx, stack)
	if err != nil {
		return nil, err
	}
	at := &situation{snapshot: s, stack: stack.Info().Name, has: stack.Info().Has}
	at.set(k)
	at.mtu, _ = n.MTU(k.iface)
	if at.routes, err = n.List(); err != nil {
		return nil, fmt.Errorf("the list of routes: %w", err)
	}
	if at.backstops, err = n.Backstops(); err != nil {
		return nil, fmt.Errorf("the list of unreachable routes: %w", err)
	}
	return at, nil
}

// set sets what depends on the connection.
func (at *situation) set(k *connection) {
	at.objects = k.objects(at.snapshot)
	at.past = k.shunt == "" && !k.tun && !at.has(klips.CapTransportDevice)
	at.admits = k.tun || at.has(klips.CapTransportPolicy)
	at.copiesTOS = at.has(klips.CapCopyTOS)
}

// of returns the same situation, as seen from another connection.
func (at *situation) of(k *connection) *situation {
	other := *at
	other.set(k)
	return &other
}

func (at *situation) object(id klips.SAID) object {
	return at.objects[slices.IndexFunc(at.objects, func(o object) bool { return o.id == id })]
}

// flow returns the eroute, which is the last of the objects.
func (at *situation) flow() object { return at.objects[len(at.objects)-1] }

// sort divides the objects into the connection's own, those of others in their places,
// and missing ones.
func (at *situation) sort() (own, others, missing []object) {
	for _, o := range at.objects {
		switch {
		case o.own():
			own = append(own, o)
		case o.there():
			others = append(others, o)
		default:
			missing = append(missing, o)
		}
	}
	return own, others, missing
}

// held reports whether the connection is down and only its eroute keeps its packets
// from leaving in clear. With a route, the route does that.
func (at *situation) held() bool {
	return at.past && at.flow().own() && !slices.ContainsFunc(at.objects, func(o object) bool { return o.sa != nil })
}

// waits reports whether an eroute only waits for an SA (%trap, %hold): a connection may
// replace it, as a key daemon would.
func waits(e klips.Eroute) bool {
	return e.ID == klips.Magic(klips.SPITrap) || e.ID == klips.Magic(klips.SPIHold)
}

// routed reports whether packets take a route of the connection.
func (at *situation) routed(want routes.Route) bool {
	r, ok := routes.To(at.routes, want.Dst)
	return ok && sameRoute(r, want)
}

func sameRoute(a, b routes.Route) bool {
	return a.Dst == b.Dst && a.Device == b.Device && a.Gateway == b.Gateway && a.Src == b.Src
}

// routeInWay returns an error if a route of another connection has the place of one of
// the connection's routes: it leads into another virtual device, or into the same
// one by another gateway while an eroute of another connection needs it.
func (at *situation) routeInWay(k *connection) error {
	if k.me().updown != "" {
		return nil // the script makes the routes
	}
	for _, want := range k.routes() {
		for _, r := range at.routes {
			if r.Dst != want.Dst || !links.IsVirtual(r.Device) {
				continue
			}
			if at.past {
				return fmt.Errorf("there is the route %s; remove it, because this stack drops packets in transport mode that are routed into a virtual device", r)
			}
			if sameRoute(r, want) {
				continue
			}
			if r.Device != want.Device || at.needs(k, r) != nil {
				return fmt.Errorf("there is the route %s, which can be of another connection; remove it, or use that device", r)
			}
		}
	}
	return nil
}

// needs returns an eroute of another connection whose packets reach the stack by a
// route; nil: there is none. An eroute to %pass needs no route: its packets leave in
// clear in either case.
func (at *situation) needs(k *connection, r routes.Route) *klips.Eroute {
	for i, e := range at.eroutes {
		if e.Selector == k.selector() && at.flow().own() || slices.Contains(at.with, e.Selector) || e.ID == klips.Magic(klips.SPIPass) {
			continue
		}
		for _, dst := range halves(e.Dst) {
			if best, ok := at.routeTo(dst); ok && best.Dst == r.Dst && best.Device == r.Device {
				return &at.eroutes[i]
			}
		}
	}
	return nil
}

// routeTo returns the route to a whole subnet.
func (at *situation) routeTo(dst netip.Prefix) (best routes.Route, ok bool) {
	for _, r := range at.routes {
		if r.Dst.Bits() <= dst.Bits() && r.Dst.Contains(dst.Addr()) && (!ok || r.Dst.Bits() > best.Dst.Bits()) {
			best, ok = r, true
		}
	}
	return best, ok
}

// up returns an error if the connection cannot be brought up, because it is up or
// something is in the way. of returns the words for the connection that an object can
// belong to.
func (at *situation) up(k *connection, of func(object) string) error {
	own, others, missing := at.sort()
	others = slices.DeleteFunc(others, func(o object) bool { return o.eroute != nil && waits(*o.eroute) })
	if len(others) > 0 {
		o := others[0]
		mend := "use another SPI"
		if o.eroute != nil {
			mend = "these packets have one eroute only"
		}
		return fmt.Errorf("not brought up: there is %s already, and %s%s; %s", o.name, o.other, of(o), mend)
	}
	if len(own) == 0 || at.held() {
		return at.routeInWay(k)
	}
	what := own[0].name
	if k.shunt != "" {
		what = "its eroute to " + k.shunt
	}
	if len(missing) == 0 {
		return fmt.Errorf("it is up already: there is %s; take it down first with %s", what, k.downWord())
	}
	return fmt.Errorf("it is partly up: there is %s, but not %s; take it down first with %s", what, missing[0].name, k.downWord())
}

// someUp reports whether the connection is up, at least partly.
func (at *situation) someUp() bool {
	own, _, _ := at.sort()
	return len(own) > 0 && !at.held()
}

// isUp reports whether all objects of the connection are there and nothing is in the way.
func (at *situation) isUp() bool {
	_, others, missing := at.sort()
	return at.someUp() && len(others)+len(missing) == 0
}

// isRouted reports whether the connection has its routes.
func (at *situation) isRouted(k *connection) bool {
	return at.past || k.me().updown != "" || !slices.ContainsFunc(k.routes(), func(r routes.Route) bool { return !at.routed(r) })
}

// unroute returns an error if another connection needs the routes.
func (at *situation) unroute(k *connection, of func(object) string) error {
	if k.me().updown != "" {
		return nil // the script removes the routes
	}
	for _, r := range k.routes() {
		if e := at.needs(k, r); e != nil {
			return fmt.Errorf("not unrouted: the eroute %s to %s%s needs the route %s, too", e.Selector, e.ID, of(object{eroute: e}), r)
		}
	}
	return nil
}

package mtu

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/user/eroute"
)

// A network has the facts about the host that the lengths depend on.
type network interface {
	// way returns how packets of this host to an address leave; ok is false if they do not.
	way(dst netip.Addr) (w routes.Way, ok bool, err error)
	// routeMTU returns the MTU of the route to an address by a device; 0: it has none.
	routeMTU(dst netip.Addr, device string) (int, error)
	// mtu returns the MTU of a device in bytes. ENODEV: there is no such device.
	mtu(device string) (int, error)
	// addresses returns the addresses of this host.
	addresses() ([]netip.Addr, error)
}

// hostNetwork is the network of this host.
type hostNetwork struct{}

func (hostNetwork) way(dst netip.Addr) (routes.Way, bool, error) { return routes.WayTo(dst) }
func (hostNetwork) routeMTU(dst netip.Addr, device string) (int, error) {
	return routes.MTU(dst, device)
}
func (hostNetwork) mtu(device string) (int, error)   { return links.MTU(device) }
func (hostNetwork) addresses() ([]netip.Addr, error) { return links.Addresses() }

// A path is a group and the packets that it protects.
type path struct {
	src, dst netip.Addr    // invalid: not asked for
	eroute   *klips.Eroute // nil: none
	group    []klips.SA    // in processing order
	device   klips.Device  // the virtual device; zero: none
	way      routes.Way    // of the packets before they are protected
}

// find finds the group that the request is about.
func (r *request) find(ctx context.Context, env *cli.Env, s klips.Stack) (p path, err error) {
	eroutes, err := klips.ReadEroutes(ctx, s)
	if err != nil {
		return p, explain.Listing("eroutes", err)
	}
	id := r.said
	switch {
	case r.dst.IsValid():
		p.src, p.dst = r.src, r.dst
		if p.eroute, err = r.selected(eroutes, &p); err != nil {
			return p, err
		}
		id = p.eroute.ID
	case r.name != "":
		if p.eroute, err = r.ofConnection(env, eroutes); err != nil {
			return p, err
		}
		id = p.eroute.ID
	}
	if id.IsMagic() {
		return p, fmt.Errorf("the eroute %v leads to %v, which protects nothing; its packets have the MTU of their device", p.eroute.Selector, id)
	}
	if p.group, err = klips.ReadGroup(ctx, s, id); err != nil {
		return p, explain.Listing("the group of "+id.String(), err)
	}
	// A member of a group stands for the whole of it.
	for i := range eroutes {
		if p.eroute == nil && eroutes[i].ID == p.group[0].ID {
			p.eroute = &eroutes[i]
		}
	}
	if !p.group[len(p.group)-1].Dir.Sends() {
		return p, fmt.Errorf("%v is inbound: only the other end decides how long its packets are; ask for an outbound SA", id)
	}
	return p, r.findDevice(ctx, s, &p)
}

// selected returns the eroute of packets to the destination, as the packet path selects it. It
// completes the source.
func (r *request) selected(eroutes []klips.Eroute, p *path) (*klips.Eroute, error) {
	table := eroute.New()
	for _, e := range eroutes {
		if err := table.Add(e); err != nil {
			return nil, fmt.Errorf("the eroute %v: %w", e.Selector, err)
		}
	}
	if !p.src.IsValid() {
		w, _, err := r.network.way(p.dst)
		if err != nil {
			return nil, err
		}
		p.src = w.Src
	}
	if p.src.IsValid() {
		if e := table.Lookup(&eroute.Packet{Src: p.src, Dst: p.dst}); e != nil {
			found := e.Eroute()
			return &found, nil
		}
	}
	if !r.src.IsValid() {
		e, err := r.nearest(eroutes, p)
		if e != nil || err != nil {
			return e, err
		}
	}
	from := ""
	if p.src.IsValid() {
		from = fmt.Sprintf(" from %v", p.src)
	}
	return nil, fmt.Errorf("no eroute selects packets%s to %v, so nothing protects them; ipsec eroute lists the eroutes, and --src names another source", from, p.dst)
}

// nearest returns the eroute with the smallest network around the destination, for packets with
// another source than that of the route. That is an address of this host, if one is in the
// eroute; otherwise the packets are those of other hosts, and the source is not known.
func (r *request) nearest(eroutes []klips.Eroute, p *path) (best *klips.Eroute, err error) {
	for i := range eroutes {
		e := &eroutes[i]
		if e.Dst.Contains(p.dst) && e.Proto == 0 && (best == nil || e.Dst.Bits() > best.Dst.Bits()) {
			best = e
		}
	}
	if best == nil {
		return nil, nil
	}
	p.src = netip.Addr{}
	own, err := r.network.addresses()
	for _, a := range own {
		if best.Src.Contains(a) && !p.src.IsValid() {
			p.src = a
		}
	}
	return best, err
}

// ofConnection returns the eroute of a connection that was made from a file.
func (r *request) ofConnection(env *cli.Env, eroutes []klips.Eroute) (*klips.Eroute, error) {
	name := quote.Name(r.name, true)
	rundir, err := environ.Rundir(env.Getenv)
	if err != nil {
		return nil, err
	}
	for _, c := range made.Read(rundir) {
		if c.Conn != r.name {
			continue
		}
		local, far := c.Form.Ends[c.Form.Local], c.Form.Ends[1-c.Form.Local]
		for i := range eroutes {
			if e := &eroutes[i]; e.Src == local.Subnet && e.Dst == far.Subnet && e.Proto == local.Proto {
				return e, nil
			}
		}
		return nil, fmt.Errorf("connection %s has no eroute now; bring it up: ipsec up %s", name, name)
	}
	if env.Resolver != nil {
		if a, err := syntax.ParseAddr(r.name, syntax.FamilyAny, env.Resolver); err == nil {
			return nil, fmt.Errorf("%s is no connection that was brought up, and as the name of a host it stands for %v; write that address", name, a)
		}
	}
	return nil, fmt.Errorf("%s is no connection that was brought up, no address and no SAID; ipsec status lists the connections", name)
}

// findDevice finds the device that the packets go through.
func (r *request) findDevice(ctx context.Context, s klips.Stack, p *path) error {
	devices, err := klips.ReadDevices(ctx, s)
	if err != nil {
		return explain.Listing("devices", err)
	}
	to := p.dst
	if !to.IsValid() && p.eroute != nil {
		to = p.eroute.Dst.Addr()
	}
	if !to.IsValid() {
		to = p.group[len(p.group)-1].ID.Dst
	}
	w, ok, err := r.network.way(to)
	if err != nil || !ok {
		return err
	}
	p.way = w
	for _, d := range devices {
		if d.Name == w.Device {
			p.device = d
		}
	}
	return nil
}

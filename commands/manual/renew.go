package manual

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
)

// remember stores the state of a connection after an operation. The connection is
// followed from the time it is routed or brought up until it is unrouted.
func (r *request) remember(dir *followed.Dir, k *connection) error {
	if r.operation != "up" && r.operation != "route" {
		if r.operation == "down" {
			return nil // its route stays
		}
		return dir.Remove(k.name)
	}
	if !k.follows {
		return dir.Remove(k.name) // it did in an earlier form
	}
	config, err := filepath.Abs(r.config)
	if err != nil {
		return err
	}
	return dir.Put(followed.Connection{
		Conns: r.names, Config: config, NoInclude: r.loader.NoInclude, Route: k.route, Interface: k.iface,
	})
}

// renew sets up the connections again that were set up with another default route than
// the present one: the named ones, or all.
func renew(ctx context.Context, env *cli.Env, r *request, h host.Host, n host.Network) error {
	dir, err := h.Follow(false)
	if err != nil {
		return err
	}
	defer dir.Close()
	list, err := dir.List()
	errs := []error{err}
	found := map[string]bool{}
	for _, c := range list {
		named := len(r.names) == 0
		for _, name := range c.Conns {
			found[name] = true
			named = named || slices.Contains(r.names, name)
		}
		if !named {
			continue
		}
		x := &renewal{env: env, trace: r.show, host: h, net: n, dir: dir, was: c}
		if err := x.run(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range r.names {
		if !found[name] {
			errs = append(errs, fmt.Errorf("conn %s: it does not follow the default route: it has no %s, or is not routed", name, defaultRoute))
		}
	}
	return errors.Join(errs...)
}

// A renewal sets up one connection again.
type renewal struct {
	env   *cli.Env
	trace bool
	host  host.Host
	net   host.Network
	dir   *followed.Dir
	was   followed.Connection
}

// run carries out the renewal. Until it is done, the old guard and the old route keep
// the flow from leaving in clear.
func (x *renewal) run(ctx context.Context) error {
	now, err := x.load(x.host, host.Identity{})
	if err != nil {
		return err // there is no default route at the moment, or the file has changed
	}
	if now.conn.route == x.was.Route && !x.was.Up {
		return nil
	}
	old, err := x.load(formerHost{x.host, x.was.Route}, host.Identity{Addr: x.was.Route.Local, Device: x.was.Interface})
	if err != nil {
		return err
	}
	moved := old.conn.me().addr != now.conn.me().addr
	if err := now.Try(); err != nil {
		return now.about(err)
	}
	if moved {
		if err := x.takeDown(ctx, old); err != nil {
			return old.about(err)
		}
	}
	if err := x.change(ctx, old, now); err != nil {
		return now.about(err)
	}
	x.was.Route, x.was.Interface, x.was.Up = now.conn.route, now.conn.iface, false
	now.Note("made again, from %s", now.conn.me().text())
	return errors.Join(x.dir.Put(x.was), x.recordForm(now.conn), now.Advise(ctx))
}

// change sets up the connection in its new form, and removes what only its old form
// needs.
func (x *renewal) change(ctx context.Context, old, now *renewed) error {
	if err := x.reattach(ctx, old, now); err != nil {
		return err
	}
	operation := "route"
	if x.was.Up {
		operation = "up"
	}
	at, err := now.look(ctx)
	if err != nil {
		return err
	}
	if err := now.operate(ctx, operation, at, now.file); err != nil {
		return err
	}
	return x.clear(ctx, old, now)
}

// recordForm changes the form in the record of a connection, if it has one.
func (x *renewal) recordForm(k *connection) error {
	l, err := recall(x.host, k.name, false)
	if l == nil || err != nil {
		return err
	}
	defer l.close()
	if l.was == nil {
		return nil
	}
	l.was.Form = k.form()
	return l.put(*l.was)
}

// A renewed is a connection with its executor.
type renewed struct {
	*executor
	file *configuration
}

// load reads the connection for a host.
func (x *renewal) load(h host.Host, me host.Identity) (*renewed, error) {
	f, err := configure(conf.Loader{NoInclude: x.was.NoInclude}, x.was.Config, h, me)
	var unread *fs.PathError
	if errors.As(err, &unread) {
		return nil, fmt.Errorf("conn %s: the file that it was made from cannot be read: %w; put it back, or bring the connection up with another one (--config)", x.was.Name(), unread)
	}
	if err != nil {
		return nil, err
	}
	k, of, err := f.connection(x.was.Conns, false)
	if err != nil {
		return nil, err
	}
	if !k.follows {
		return nil, of.Errorf("it followed the default route, and has no %s any more; take it down by hand, and up again", defaultRoute)
	}
	if err := x.sameEpoch(k); err != nil {
		return nil, err
	}
	return &renewed{newExecutor(x.env, k, of, x.net, x.trace), f}, nil
}

// sameEpoch gives the connection of a file the epoch that it was made with.
func (x *renewal) sameEpoch(k *connection) error {
	if k.master.Value == "" {
		return nil
	}
	l, err := recall(x.host, k.name, false)
	if err != nil {
		return err
	}
	defer l.close()
	k.catchUp(l.former())
	return nil
}

// takeDown removes the SAs and the eroute with the address that this host no longer
// has. It first stores that they existed.
func (x *renewal) takeDown(ctx context.Context, old *renewed) error {
	at, err := old.look(ctx)
	if err != nil {
		return err
	}
	if !at.someUp() {
		return nil
	}
	x.was.Up = true
	if err := x.dir.Put(x.was); err != nil {
		return err
	}
	old.Plan = makePlan(old.conn, "down", at)
	return old.down(ctx, "down", at, old.file.of(old.conn))
}

// reattach attaches the virtual device to the device of the present default route, if
// the file says so. If the virtual device has the old address, it gets the new one
// before the old one is removed: a device without addresses loses its routes.
func (x *renewal) reattach(ctx context.Context, old, now *renewed) error {
	k := now.conn
	at, err := now.look(ctx)
	if err != nil {
		return err
	}
	now.Plan.Steps = nil
	b, physical, direct := k.binding(), "", false
	for _, d := range at.devices {
		if d.Name == k.iface {
			physical, direct = d.Physical, d.Direct
		}
	}
	switch {
	case physical == "":
		return nil // the operation up attaches it
	case b.ByRoute && b.Physical != "" && b.Physical != physical:
		off, on := k.ask(klips.Detach{Virtual: k.iface}), k.ask(klips.Attach{Virtual: k.iface, Physical: b.Physical, Direct: direct})
		off.Undo = []step.Step{k.ask(klips.Attach{Virtual: k.iface, Physical: physical, Direct: direct})}
		on.Undo = []step.Step{k.ask(klips.Detach{Virtual: k.iface})}
		now.Plan.Steps = append(now.Plan.Steps, off, on)
		physical = b.Physical
	}
	if x.former(old, now) != nil {
		for _, p := range k.ownAddresses(x.net, physical) {
			now.Plan.Steps = append(now.Plan.Steps, step.Step{Address: &p, Device: k.iface})
		}
	}
	return now.All(ctx)
}

// clear removes what only the old address needs: the guard of its flow, if that has
// changed, and the address on the virtual device.
func (x *renewal) clear(ctx context.Context, old, now *renewed) error {
	now.Plan.Steps = nil
	if g := old.conn.guard(); old.conn.shunt != "%pass" && g.Selector != now.conn.selector() {
		now.Plan.Steps = append(now.Plan.Steps, step.Step{Guard: g, Remove: true, IfExists: true})
	}
	if former := x.former(old, now); former != nil {
		now.Plan.Steps = append(now.Plan.Steps, step.Step{Address: former, Device: now.conn.iface, Remove: true})
	}
	_, _, errs := now.Each(ctx)
	return errors.Join(errs...)
}

// former returns the address that the virtual device still has and this host no longer
// has; nil: there is none.
func (x *renewal) former(old, now *renewed) *netip.Prefix {
	former := old.conn.me().addr
	list, err := x.net.Addresses(now.conn.iface)
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr() == former })
	if err != nil || i < 0 || former == now.conn.me().addr {
		return nil
	}
	return &list[i]
}

// formerHost is the host with its former default route.
type formerHost struct {
	host.Host
	route followed.Route
}

func (h formerHost) DefaultRoute(bool) (followed.Route, error) { return h.route, nil }
func (h formerHost) DefaultDevice() (string, error)            { return h.route.Device, nil }

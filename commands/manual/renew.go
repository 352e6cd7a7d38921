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
func renew(ctx context.Context, env *cli.Env, r *request, h host, n network) error {
	dir, err := h.follow()
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
	host  host
	net   network
	dir   *followed.Dir
	was   followed.Connection
}

// run carries out the renewal. Until it is done, the old guard and the old route keep
// the flow from leaving in clear.
func (x *renewal) run(ctx context.Context) error {
	now, err := x.load(x.host, identity{})
	if err != nil {
		return err // there is no default route at the moment, or the file has changed
	}
	if now.conn.route == x.was.Route && !x.was.Up {
		return nil
	}
	old, err := x.load(formerHost{x.host, x.was.Route}, identity{x.was.Route.Local, x.was.Interface})
	if err != nil {
		return err
	}
	moved := old.conn.me().addr != now.conn.me().addr
	if err := now.try(); err != nil {
		return about(now.of, err)
	}
	if moved {
		if err := x.takeDown(ctx, old); err != nil {
			return about(old.of, err)
		}
	}
	if err := x.change(ctx, old, now); err != nil {
		return about(now.of, err)
	}
	x.was.Route, x.was.Interface, x.was.Up = now.conn.route, now.conn.iface, false
	now.note("made again, from %s", now.conn.me().text())
	return errors.Join(x.dir.Put(x.was), now.advise(ctx))
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

// A renewed is a connection with its executor.
type renewed struct {
	*executor
	file *configuration
}

// load reads the connection for a host.
func (x *renewal) load(h host, me identity) (*renewed, error) {
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
	return &renewed{newExecutor(x.env, k, of, x.net, x.trace), f}, nil
}

// takeDown removes the SAs and the eroute with the address that this host no longer
// has. It first stores that they existed.
func (x *renewal) takeDown(ctx context.Context, old *renewed) error {
	at, err := old.look(ctx)
	if err != nil {
		return err
	}
	if own, _, _ := at.sort(); len(own) == 0 || at.held() {
		return nil
	}
	x.was.Up = true
	if err := x.dir.Put(x.was); err != nil {
		return err
	}
	old.plan = makePlan(old.conn, "down", at)
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
	now.plan.steps = nil
	b, physical, direct := k.binding(), "", false
	for _, d := range at.devices {
		if d.Name == k.iface {
			physical, direct = d.Physical, d.Direct
		}
	}
	switch {
	case physical == "":
		return nil // the operation up attaches it
	case b.byRoute && b.physical != "" && b.physical != physical:
		off, on := k.ask(klips.Detach{Virtual: k.iface}), k.ask(klips.Attach{Virtual: k.iface, Physical: b.physical, Direct: direct})
		off.undo = []step{k.ask(klips.Attach{Virtual: k.iface, Physical: physical, Direct: direct})}
		on.undo = []step{k.ask(klips.Detach{Virtual: k.iface})}
		now.plan.steps = append(now.plan.steps, off, on)
		physical = b.physical
	}
	if x.former(old, now) != nil {
		for _, p := range k.ownAddresses(x.net, physical) {
			now.plan.steps = append(now.plan.steps, step{address: &p, device: k.iface})
		}
	}
	return now.all(ctx)
}

// clear removes what only the old address needs: the guard of its flow, if that has
// changed, and the address on the virtual device.
func (x *renewal) clear(ctx context.Context, old, now *renewed) error {
	now.plan.steps = nil
	if g := old.conn.guard(); old.conn.shunt != "%pass" && g.Selector != now.conn.selector() {
		now.plan.steps = append(now.plan.steps, step{guard: g, remove: true, ifExists: true})
	}
	if former := x.former(old, now); former != nil {
		now.plan.steps = append(now.plan.steps, step{address: former, device: now.conn.iface, remove: true})
	}
	_, _, errs := now.each(ctx)
	return errors.Join(errs...)
}

// former returns the address that the virtual device still has and this host no longer
// has; nil: there is none.
func (x *renewal) former(old, now *renewed) *netip.Prefix {
	former := old.conn.me().addr
	list, err := x.net.addresses(now.conn.iface)
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr() == former })
	if err != nil || i < 0 || former == now.conn.me().addr {
		return nil
	}
	return &list[i]
}

// formerHost is the host with its former default route.
type formerHost struct {
	host
	route followed.Route
}

func (h formerHost) defaultRoute(bool) (followed.Route, error) { return h.route, nil }
func (h formerHost) defaultDevice() (string, error)            { return h.route.Device, nil }

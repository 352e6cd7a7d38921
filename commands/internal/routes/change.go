package routes

import (
	"context"
	"net"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// Add adds a route to the main table. Of one that another function has returned
// everything counts, else Dst, Gateway, Device and Metric. EEXIST: there is one to
// that network. ENODEV: there is no such device.
func Add(r Route) error {
	k, err := r.kernel()
	if err != nil {
		return err
	}
	return with(func(ctx context.Context, c *rtnl.Conn) error { return c.AddRoute(ctx, k) })
}

// Replace puts a route in the place of that which packets to its network take, in
// one message: there is no moment without a route. It returns the old route, which
// Replace puts back as it was; ok is false if there was none, and the route has
// been added. The new route has the metric of the old one, because that is its
// place. Errors are those of Add.
func Replace(r Route) (old Route, ok bool, err error) {
	list, err := List()
	if err != nil {
		return old, false, err
	}
	if old, ok = To(list, r.Dst); !ok {
		return old, false, Add(r)
	}
	if !r.isListed() {
		r.Metric = old.Metric
	}
	k, err := r.kernel()
	if err != nil {
		return old, true, err
	}
	return old, true, with(func(ctx context.Context, c *rtnl.Conn) error { return c.ReplaceRoute(ctx, k) })
}

// Remove removes the first route to a network from the main table; Device and
// Gateway count if they are given. It returns that route, which Add puts back as
// it was. ESRCH: there is none.
func Remove(r Route) (old Route, err error) {
	list, err := List()
	if err != nil {
		return old, err
	}
	for _, k := range list {
		if k.Dst != r.Dst || k.listed.TOS != 0 || r.Device != "" && k.Device != r.Device || r.Gateway.IsValid() && k.Gateway != r.Gateway {
			continue
		}
		return k, with(func(ctx context.Context, c *rtnl.Conn) error { return c.DeleteRoute(ctx, k.listed) })
	}
	return old, unix.ESRCH
}

// isListed reports whether another function has returned the route.
func (r *Route) isListed() bool { return r.listed.Dst.IsValid() }

// kernel is the route as the kernel takes it.
func (r *Route) kernel() (rtnl.Route, error) {
	if r.isListed() {
		return r.listed, nil
	}
	dev, err := net.InterfaceByName(r.Device)
	if err != nil {
		return rtnl.Route{}, unix.ENODEV
	}
	return rtnl.Route{Dst: r.Dst, Gateway: r.Gateway, Device: dev.Index, Metric: r.Metric}, nil
}

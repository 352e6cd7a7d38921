package routes

import (
	"context"
	"net"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// Add adds a route to the main table. A route that a function of this package has
// returned is added with all its attributes; of another route only Dst, Gateway, Device
// and Metric are used. EEXIST: there is a route to that network. ENODEV: there is no
// such device.
func Add(r Route) error {
	k, err := r.kernel()
	if err != nil {
		return err
	}
	return rtnl.With(func(ctx context.Context, c *rtnl.Conn) error { return c.AddRoute(ctx, k) })
}

// Replace replaces the route that packets to a network take, in one message, so that
// the network always has a route. It returns the old route. To restore it, call Replace
// with it. ok is false if there was no route and the new one has been added. The new
// route gets the metric of the old one. Errors are those of Add.
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
	return old, true, rtnl.With(func(ctx context.Context, c *rtnl.Conn) error { return c.ReplaceRoute(ctx, k) })
}

// Remove removes the first route to a network from the main table. Device and Gateway
// must match if they are set. It returns that route; Add restores it. ESRCH: there is
// none.
func Remove(r Route) (old Route, err error) {
	list, err := List()
	if err != nil {
		return old, err
	}
	for _, k := range list {
		if k.Dst != r.Dst || k.listed.TOS != 0 || r.Device != "" && k.Device != r.Device || r.Gateway.IsValid() && k.Gateway != r.Gateway {
			continue
		}
		return k, rtnl.With(func(ctx context.Context, c *rtnl.Conn) error { return c.DeleteRoute(ctx, k.listed) })
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
	return rtnl.Route{Dst: r.Dst, Gateway: r.Gateway, Device: dev.Index, Src: r.Src, Metric: r.Metric}, nil
}

package routes

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// A backstop is an unreachable route behind a route into a virtual device. It takes the
// packets when that route has gone, or when the kernel ignores it because its device is
// down (ignore_routes_with_linkdown). So no other route takes them. ip route shows it
// with these numbers.
const (
	// BackstopProtocol marks a route as a backstop (rtm_protocol).
	BackstopProtocol = 75
	// BackstopMetric is higher than that of all other routes, so that they are
	// preferred.
	BackstopMetric = 0xfffffffe
)

// AddBackstop adds the backstop of a network; was reports whether it existed before.
func AddBackstop(dst netip.Prefix) (was bool, err error) {
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error { return c.AddRoute(ctx, backstop(dst)) })
	if errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	return false, err
}

// RemoveBackstop removes the backstop of a network. ESRCH: there is none.
func RemoveBackstop(dst netip.Prefix) error {
	return rtnl.With(func(ctx context.Context, c *rtnl.Conn) error { return c.DeleteRoute(ctx, backstop(dst)) })
}

// Backstops lists the networks that have a backstop, IPv4 first.
func Backstops() (l []netip.Prefix, err error) {
	all, err := dumpKind(unix.RTN_UNREACHABLE)
	for _, r := range all {
		if r.listed.Protocol == BackstopProtocol && r.Metric == BackstopMetric && r.Table == 0 {
			l = append(l, r.Dst)
		}
	}
	return l, err
}

// backstop is the backstop of a network as the kernel takes it.
func backstop(dst netip.Prefix) rtnl.Route {
	return rtnl.Route{Dst: dst, Metric: BackstopMetric, Protocol: BackstopProtocol, Kind: unix.RTN_UNREACHABLE}
}

package routes

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// A backstop is an unreachable route behind a route into a virtual device: when
// that one has gone, or the kernel skips it because its device is down
// (ignore_routes_with_linkdown), no other route takes its packets. ip route shows
// it with these numbers.
const (
	// BackstopProtocol says who has made the route (rtm_protocol).
	BackstopProtocol = 75
	// BackstopMetric is worse than that of other routes.
	BackstopMetric = 0xfffffffe
)

// AddBackstop adds the backstop of a network; was reports whether it was there.
func AddBackstop(dst netip.Prefix) (was bool, err error) {
	err = with(func(ctx context.Context, c *rtnl.Conn) error { return c.AddRoute(ctx, backstop(dst)) })
	if errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	return false, err
}

// RemoveBackstop removes it. ESRCH: there is none.
func RemoveBackstop(dst netip.Prefix) error {
	return with(func(ctx context.Context, c *rtnl.Conn) error { return c.DeleteRoute(ctx, backstop(dst)) })
}

// Backstops lists the networks that have one, IPv4 first.
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

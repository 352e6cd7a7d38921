package routes

import (
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
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
	b, err := backstop(dst)
	if err != nil {
		return false, err
	}
	err = change(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, b)
	if errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	return false, err
}

// RemoveBackstop removes it. ESRCH: there is none.
func RemoveBackstop(dst netip.Prefix) error {
	b, err := backstop(dst)
	if err != nil {
		return err
	}
	return change(unix.RTM_DELROUTE, 0, b)
}

// Backstops lists the networks that have one, IPv4 first.
func Backstops() (l []netip.Prefix, err error) {
	all, err := dumpKind(unix.RTN_UNREACHABLE)
	for _, r := range all {
		if r.proto == BackstopProtocol && r.Metric == BackstopMetric && r.Table == 0 {
			l = append(l, r.Dst)
		}
	}
	return l, err
}

// backstop returns a struct rtmsg and its attributes.
func backstop(dst netip.Prefix) ([]byte, error) {
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = unix.AF_INET
	if dst.Addr().Is6() {
		head[0] = unix.AF_INET6
	}
	head[1] = byte(dst.Bits())
	head[4] = unix.RT_TABLE_MAIN
	head[5] = BackstopProtocol
	head[7] = unix.RTN_UNREACHABLE
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.RTA_DST, dst.Addr().AsSlice())
	e.Uint32(unix.RTA_PRIORITY, BackstopMetric)
	attrs, err := e.Encode()
	return append(head, attrs...), err
}

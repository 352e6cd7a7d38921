// Package routes reads and changes the unicast routes of the host's main table, and
// finds the routes that lead into a device.
package routes

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// A Route is a unicast route.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr // invalid: none
	Device  string     // "": several devices, or none
	Src     netip.Addr // source address of the host's packets; invalid: not set
	Metric  uint32
	Table   uint32 // 0: the main table

	devices []string   // all its devices
	listed  rtnl.Route // as the kernel has it, to be made again as it was; zero: it is new
}

// String returns the route in the notation of ip route.
func (r Route) String() string {
	var sb strings.Builder
	switch {
	case r.Dst.Bits() == 0:
		sb.WriteString("default")
	case r.Dst.IsSingleIP():
		sb.WriteString(r.Dst.Addr().String())
	default:
		sb.WriteString(r.Dst.String())
	}
	if r.Gateway.IsValid() {
		fmt.Fprintf(&sb, " via %v", r.Gateway)
	}
	if r.Device != "" {
		fmt.Fprintf(&sb, " dev %s", r.Device)
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&sb, " src %v", r.Src)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&sb, " metric %d", r.Metric)
	}
	if r.Table != 0 {
		fmt.Fprintf(&sb, " table %d", r.Table)
	}
	return sb.String()
}

// List reads the routes of the main table in both families, IPv4 first, in the
// kernel's order.
func List() ([]Route, error) {
	all, err := dump()
	return slices.DeleteFunc(all, func(r Route) bool { return r.Table != 0 }), err
}

// Into reads the routes of all tables that lead into one of the devices. It leaves out
// the routes that the kernel has made for the device itself: to the networks of its
// addresses, and for multicast. Routes of the main table come first.
func Into(devices ...string) ([]Route, error) {
	all, err := dump()
	slices.SortStableFunc(all, func(a, b Route) int { return cmp.Compare(a.Table, b.Table) })
	return slices.DeleteFunc(all, func(r Route) bool {
		return r.listed.Protocol == unix.RTPROT_KERNEL || r.Table == unix.RT_TABLE_LOCAL || !slices.ContainsFunc(r.devices, func(d string) bool { return slices.Contains(devices, d) })
	}), err
}

// To returns the route of a list that the kernel uses for packets whose best match is
// dst: the first of those with the lowest metric. Routes for only one type of service
// are ignored.
func To(list []Route, dst netip.Prefix) (best Route, ok bool) {
	for _, r := range list {
		if r.Dst == dst && r.listed.TOS == 0 && (!ok || r.Metric < best.Metric) {
			best, ok = r, true
		}
	}
	return best, ok
}

// dump reads the unicast routes of all tables.
func dump() ([]Route, error) { return dumpKind(unix.RTN_UNICAST) }

// dumpKind reads the routes of a kind (RTN_…) of all tables.
func dumpKind(kind uint8) (l []Route, err error) {
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		all, err := c.Routes(ctx)
		if err != nil {
			return err
		}
		names := map[int]string{}
		if ifs, err := net.Interfaces(); err == nil {
			for _, i := range ifs {
				names[i.Index] = i.Name
			}
		}
		for _, r := range all {
			if r.Kind == kind {
				l = append(l, named(r, names))
			}
		}
		return nil
	})
	return l, err
}

// named is a route of the kernel with the names of devices.
func named(k rtnl.Route, names map[int]string) Route {
	r := Route{Dst: k.Dst, Gateway: k.Gateway, Device: names[k.Device], Src: k.Src, Metric: k.Metric, listed: k}
	if k.Table != unix.RT_TABLE_MAIN {
		r.Table = k.Table
	}
	for _, index := range k.Devices {
		r.devices = append(r.devices, names[index])
	}
	return r
}

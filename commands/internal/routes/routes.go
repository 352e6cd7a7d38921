// Package routes reads and changes the unicast routes of the host's main table, and
// knows which routes lead into a device.
package routes

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Route is a unicast route.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr // invalid: none
	Device  string     // "": it has several, or none
	Src     netip.Addr // of packets of the host; invalid: not said
	Metric  uint32
	Table   uint32 // 0: the main table

	devices []string // all that it leads into
	tos     uint8    // of its packets; 0: any
	proto   uint8    // RTPROT_…, who made it
	raw     []byte   // the kernel's description, to be sent back
}

// String returns the route in the words of ip route.
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

// Into reads the routes of all tables that lead into one of the devices, but for those that
// the kernel has made for the device itself: to the networks of its addresses, and
// for multicast. Those of the main table come first.
func Into(devices ...string) ([]Route, error) {
	all, err := dump()
	slices.SortStableFunc(all, func(a, b Route) int { return cmp.Compare(a.Table, b.Table) })
	return slices.DeleteFunc(all, func(r Route) bool {
		return r.proto == unix.RTPROT_KERNEL || r.Table == unix.RT_TABLE_LOCAL || !slices.ContainsFunc(r.devices, func(d string) bool { return slices.Contains(devices, d) })
	}), err
}

// To returns the route of a list that packets take whose best match is dst: the
// first of those with the lowest metric. Routes for one type of service only do
// not count.
func To(list []Route, dst netip.Prefix) (best Route, ok bool) {
	for _, r := range list {
		if r.Dst == dst && r.tos == 0 && (!ok || r.Metric < best.Metric) {
			best, ok = r, true
		}
	}
	return best, ok
}

// dump reads the unicast routes of all tables.
func dump() ([]Route, error) { return dumpKind(unix.RTN_UNICAST) }

// dumpKind reads the routes of a kind (RTN_…) of all tables.
func dumpKind(kind uint8) ([]Route, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	names := map[uint32]string{}
	if ifs, err := net.Interfaces(); err == nil {
		for _, i := range ifs {
			names[uint32(i.Index)] = i.Name
		}
	}
	var l []Route
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, unix.SizeofRtMsg)
		req[0] = family
		msgs, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request | netlink.Dump},
			Data:   req,
		})
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			if r, ok := parse(m.Data, kind, names); ok {
				l = append(l, r)
			}
		}
	}
	return l, nil
}

// parse reads a struct rtmsg and its attributes; ok is false for routes of other
// kinds.
func parse(b []byte, kind uint8, names map[uint32]string) (r Route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	// rtm_family, rtm_dst_len, rtm_src_len, rtm_tos, rtm_table, rtm_protocol,
	// rtm_scope, rtm_type, rtm_flags
	family, bits, table := b[0], int(b[1]), uint32(b[4])
	if b[7] != kind || family != unix.AF_INET && family != unix.AF_INET6 {
		return r, false
	}
	r.tos, r.proto = b[3], b[5]
	dst := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return r, false
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_OIF:
			r.Device = names[number(ad.Bytes())]
			r.devices = append(r.devices, r.Device)
		case unix.RTA_MULTIPATH:
			for _, index := range hops(ad.Bytes()) {
				r.devices = append(r.devices, names[index])
			}
		case unix.RTA_PRIORITY:
			r.Metric = number(ad.Bytes())
		case unix.RTA_TABLE: // rtm_table has 8 bits
			table = number(ad.Bytes())
		}
	}
	if table != unix.RT_TABLE_MAIN {
		r.Table = table
	}
	r.Dst = netip.PrefixFrom(dst, bits)
	r.raw = slices.Clone(b)
	// The kernel tells states of the link among the flags, and takes none back.
	binary.NativeEndian.PutUint32(r.raw[8:], binary.NativeEndian.Uint32(b[8:])&unix.RTNH_F_ONLINK)
	return r, ad.Err() == nil && r.Dst.IsValid()
}

// hops reads the indexes of the devices of several struct rtnexthop.
func hops(b []byte) (indexes []uint32) {
	for len(b) >= unix.SizeofRtNexthop {
		// rtnh_len, rtnh_flags, rtnh_hops, rtnh_ifindex; attributes follow
		indexes = append(indexes, binary.NativeEndian.Uint32(b[4:]))
		n := (int(binary.NativeEndian.Uint16(b)) + unix.RTNH_ALIGNTO - 1) &^ (unix.RTNH_ALIGNTO - 1)
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		b = b[n:]
	}
	return indexes
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// Package routes reads and changes the unicast routes of the host's main table.
package routes

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Route is a route of the main table.
type Route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"via,omitzero"`  // invalid: none
	Device  string       `json:"dev,omitempty"` // "": it has several, or none
	Src     netip.Addr   `json:"src,omitzero"`  // of packets of the host; invalid: not said
	Metric  uint32       `json:"metric,omitempty"`

	raw []byte // the kernel's description, to be sent back
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
	return sb.String()
}

// List reads the routes of both families, IPv4 first, in the kernel's order.
func List() ([]Route, error) {
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
			if r, ok := parse(m.Data, names); ok {
				l = append(l, r)
			}
		}
	}
	return l, nil
}

// parse reads a struct rtmsg and its attributes; ok is false for routes of other
// tables and kinds.
func parse(b []byte, names map[uint32]string) (r Route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	// rtm_family, rtm_dst_len, rtm_src_len, rtm_tos, rtm_table, rtm_protocol,
	// rtm_scope, rtm_type, rtm_flags
	family, bits, table, kind := b[0], int(b[1]), b[4], b[7]
	if table != unix.RT_TABLE_MAIN || kind != unix.RTN_UNICAST || family != unix.AF_INET && family != unix.AF_INET6 {
		return r, false
	}
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
		case unix.RTA_PRIORITY:
			r.Metric = number(ad.Bytes())
		}
	}
	r.Dst = netip.PrefixFrom(dst, bits)
	r.raw = slices.Clone(b)
	// The kernel tells states of the link among the flags, and takes none back.
	binary.NativeEndian.PutUint32(r.raw[8:], binary.NativeEndian.Uint32(b[8:])&unix.RTNH_F_ONLINK)
	return r, ad.Err() == nil && r.Dst.IsValid()
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// Add adds a route, of which Dst, Gateway and Device count. EEXIST: there is one
// to that network. ENODEV: there is no such device.
func Add(r Route) error {
	dev, err := net.InterfaceByName(r.Device)
	if err != nil {
		return unix.ENODEV
	}
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = unix.AF_INET
	if r.Dst.Addr().Is6() {
		head[0] = unix.AF_INET6
	}
	head[1] = byte(r.Dst.Bits())
	head[4] = unix.RT_TABLE_MAIN
	head[5] = unix.RTPROT_BOOT
	head[7] = unix.RTN_UNICAST
	if !r.Gateway.IsValid() && r.Dst.Addr().Is4() {
		head[6] = unix.RT_SCOPE_LINK
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.RTA_DST, r.Dst.Addr().AsSlice())
	e.Uint32(unix.RTA_OIF, uint32(dev.Index))
	if r.Gateway.IsValid() {
		e.Bytes(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	attrs, err := e.Encode()
	if err != nil {
		return err
	}
	return change(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, append(head, attrs...))
}

// Remove removes the first route to a network; Device and Gateway count if they
// are given. It returns how to put exactly that route back. ESRCH: there is none.
func Remove(r Route) (back func() error, err error) {
	list, err := List()
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		if k.Dst != r.Dst || r.Device != "" && k.Device != r.Device || r.Gateway.IsValid() && k.Gateway != r.Gateway {
			continue
		}
		if err := change(unix.RTM_DELROUTE, 0, k.raw); err != nil {
			return nil, err
		}
		return func() error { return change(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, k.raw) }, nil
	}
	return nil, unix.ESRCH
}

// change sends a request that changes routes. Errors are syscall.Errno, as far
// as they are the kernel's answer.
func change(kind netlink.HeaderType, flags netlink.HeaderFlags, data []byte) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return err
}

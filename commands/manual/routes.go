package manual

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A router changes the routes of the main table.
type router interface {
	// add adds a route. EEXIST: there is one to that network.
	add(r route) error
	// remove removes the first route that fits, and returns how to put exactly
	// that back. ESRCH: there is none.
	remove(r route) (back func() error, err error)
}

// kernel is the routing table of the kernel.
type kernel struct{}

var _ router = kernel{}

func (kernel) add(r route) error {
	index, err := net.InterfaceByName(r.device)
	if err != nil {
		return unix.ENODEV
	}
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = unix.AF_INET
	if r.dst.Addr().Is6() {
		head[0] = unix.AF_INET6
	}
	head[1] = byte(r.dst.Bits())
	head[4] = unix.RT_TABLE_MAIN
	head[5] = unix.RTPROT_BOOT
	head[7] = unix.RTN_UNICAST
	if !r.gateway.IsValid() && r.dst.Addr().Is4() {
		head[6] = unix.RT_SCOPE_LINK
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.RTA_DST, r.dst.Addr().AsSlice())
	e.Uint32(unix.RTA_OIF, uint32(index.Index))
	if r.gateway.IsValid() {
		e.Bytes(unix.RTA_GATEWAY, r.gateway.AsSlice())
	}
	attrs, err := e.Encode()
	if err != nil {
		return err
	}
	return change(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, append(head, attrs...))
}

func (kernel) remove(r route) (back func() error, err error) {
	list, err := dump(r.dst.Addr().Is6())
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		if k.dst != r.dst || r.device != "" && k.device != r.device || r.gateway.IsValid() && k.gateway != r.gateway {
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

// A kernelRoute is a unicast route of the main table.
type kernelRoute struct {
	dst            netip.Prefix
	gateway, local netip.Addr // invalid: none
	device         string
	metric         uint32
	raw            []byte // the kernel's description, to be sent back
}

// dump lists the unicast routes of the main table in the kernel's order.
func dump(is6 bool) ([]kernelRoute, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	req := make([]byte, unix.SizeofRtMsg)
	req[0] = unix.AF_INET
	if is6 {
		req[0] = unix.AF_INET6
	}
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request | netlink.Dump},
		Data:   req,
	})
	if err != nil {
		return nil, err
	}
	names := map[uint32]string{}
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range ifs {
		names[uint32(i.Index)] = i.Name
	}
	var list []kernelRoute
	for _, m := range msgs {
		if r, ok := parseRoute(m.Data, names); ok {
			list = append(list, r)
		}
	}
	return list, nil
}

// parseRoute reads a struct rtmsg and its attributes; ok is false for routes of
// other tables and kinds.
func parseRoute(b []byte, names map[uint32]string) (r kernelRoute, ok bool) {
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
			r.gateway, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_PREFSRC:
			r.local, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_OIF:
			if v := ad.Bytes(); len(v) == 4 {
				r.device = names[binary.NativeEndian.Uint32(v)]
			}
		case unix.RTA_PRIORITY:
			if v := ad.Bytes(); len(v) == 4 {
				r.metric = binary.NativeEndian.Uint32(v)
			}
		}
	}
	r.dst = netip.PrefixFrom(dst, bits)
	r.raw = slices.Clone(b)
	// The kernel tells states of the link among the flags, and takes none back.
	binary.NativeEndian.PutUint32(r.raw[8:], binary.NativeEndian.Uint32(b[8:])&unix.RTNH_F_ONLINK)
	return r, ad.Err() == nil && r.dst.IsValid()
}

var errNoDefault = errors.New("no default route")

// findDefault returns the default route with the lowest metric that does not
// lead into a virtual device.
func findDefault(is6 bool) (best kernelRoute, err error) {
	list, err := dump(is6)
	if err != nil {
		return best, err
	}
	err = errNoDefault
	for _, r := range list {
		if r.dst.Bits() != 0 || isVirtual(r.device) || r.device == "" {
			continue
		}
		if err != nil || r.metric < best.metric {
			best, err = r, nil
		}
	}
	return best, err
}

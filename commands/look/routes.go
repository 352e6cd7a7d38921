package look

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A route is an entry of the main routing table.
type route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"via,omitzero"`
	Device  string       `json:"dev,omitempty"`
	Src     netip.Addr   `json:"src,omitzero"`
	Metric  uint32       `json:"metric,omitempty"`
}

func (r route) String() string {
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

// routes reads the main table, IPv4 first, in the kernel's order.
func routes() ([]route, error) {
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
	var l []route
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
			if r, ok := parseRoute(m.Data, names); ok {
				l = append(l, r)
			}
		}
	}
	return l, nil
}

// parseRoute reads a struct rtmsg and its attributes; ok is false for routes
// of other tables and kinds.
func parseRoute(b []byte, names map[uint32]string) (r route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	family, bits, table, kind := b[0], int(b[1]), b[4], b[7]
	if table != unix.RT_TABLE_MAIN || kind != unix.RTN_UNICAST {
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
	return r, ad.Err() == nil && r.Dst.IsValid()
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

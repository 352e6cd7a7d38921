package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Route is a route of any table.
type Route struct {
	Dst      netip.Prefix
	Gateway  netip.Addr // invalid: none, or several
	Device   int        // index of the device; 0: several, or none
	Devices  []int      // all devices of its hops; a new route uses Device
	Src      netip.Addr // of the host's packets; invalid: not set
	Metric   uint32
	Table    uint32 // RT_TABLE_…; 0 in a new route: the main table
	TOS      uint8  // of its packets; 0: any
	Protocol uint8  // RTPROT_…, the program that made it; 0 in a new route: RTPROT_BOOT
	Kind     uint8  // RTN_…; 0 in a new route: RTN_UNICAST
	MTU      int    // of the route, in bytes; 0: that of the device; a new route has none

	indirect bool   // it has gateways, or several hops
	raw      []byte // the data of the kernel's message; nil in a new route
}

// Routes lists the routes of all tables, IPv4 first, in the kernel's order.
func (c *Conn) Routes(ctx context.Context) (l []Route, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, unix.SizeofRtMsg)
		req[0] = family
		answers, err := c.dump(ctx, unix.RTM_GETROUTE, req)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range answers {
			if m.Header.Type != unix.RTM_NEWROUTE {
				continue
			}
			r, err := parseRoute(m.Data)
			if err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			l = append(l, r)
		}
	}
	return l, nil
}

// AddRoute makes a route. A route that was listed by Routes is made again unchanged.
// EEXIST: another route is in its place. ENODEV: there is no such device.
func (c *Conn) AddRoute(ctx context.Context, r Route) error {
	return c.changeRoute(ctx, "make", unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, &r)
}

// ReplaceRoute replaces the route in the same place, in one message: there is always a
// route.
func (c *Conn) ReplaceRoute(ctx context.Context, r Route) error {
	return c.changeRoute(ctx, "replace", unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, &r)
}

// DeleteRoute removes a route. ESRCH: it does not exist.
func (c *Conn) DeleteRoute(ctx context.Context, r Route) error {
	return c.changeRoute(ctx, "remove", unix.RTM_DELROUTE, 0, &r)
}

func (c *Conn) changeRoute(ctx context.Context, verb string, typ uint16, flags netlink.HeaderFlags, r *Route) error {
	if err := c.change(ctx, typ, flags, r.message()); err != nil {
		return fmt.Errorf("%s the route %v: %w", verb, r.place(), err)
	}
	return nil
}

// Exit returns the index of the device for packets of this host to an address,
// according to all rules and tables of the kernel. It is 0 if the packets do not leave:
// there is no route, or one that drops them, or the address is this host's own.
func (c *Conn) Exit(ctx context.Context, to netip.Addr) (index int, err error) {
	r, err := c.lookUp(ctx, to, 0)
	if r == nil {
		return 0, err
	}
	return r.Device, nil
}

// Way returns the route of this host to an address, as Exit finds it, with the source
// address that the kernel chooses. ok is false if the packets do not leave.
func (c *Conn) Way(ctx context.Context, to netip.Addr) (r Route, ok bool, err error) {
	found, err := c.lookUp(ctx, to, 0)
	if found == nil {
		return Route{}, false, err
	}
	return *found, true, nil
}

// NextHop returns the address of the neighbour that packets of this host to an address are
// sent to by a device: that of a gateway, or the address itself. It is invalid if there is
// none: no route by that device, or one that drops; a broadcast or multicast address, or
// one of this host; an IPv4 route by an IPv6 gateway. Without an IPv4 route by the device,
// the kernel takes the address to be on its link, also for the sockets bound to it.
func (c *Conn) NextHop(ctx context.Context, to netip.Addr, device int) (netip.Addr, error) {
	r, err := c.lookUp(ctx, to, device)
	switch {
	case r == nil || r.Device != device || to.IsMulticast():
		return netip.Addr{}, err
	case r.indirect:
		return r.Gateway, nil
	}
	return to, nil
}

// lookUp returns the route of this host to an address, by a device (0: by any). It is nil
// if packets do not leave by a unicast route.
func (c *Conn) lookUp(ctx context.Context, to netip.Addr, device int) (*Route, error) {
	r, err := c.LookUp(ctx, Query{To: to, Out: device})
	switch {
	case err == nil && r.Kind == unix.RTN_UNICAST && r.Device != 0:
		return &r, nil
	case err == nil || isUnreachable(err):
		return nil, nil
	}
	return nil, err
}

// isUnreachable reports whether an error is that of a route that drops, as in ip-route(8),
// of a missing route, or of a device that is down or gone.
func isUnreachable(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.ENODEV, unix.ENETDOWN},
		func(errno unix.Errno) bool { return errors.Is(err, errno) })
}

// A Query is a packet whose route is looked up.
type Query struct {
	To, From netip.Addr // From: not valid if it does not matter
	In       int        // index of the device by which it has arrived; 0: it is of this host
	Out      int        // index of the device by which it must leave; 0: any
	Proto    uint8      // 0: none
	// The ports of TCP and UDP.
	SrcPort, DstPort uint16
	// Entry asks for the entry of the table. Its MTU is what was set, not what routers have
	// reported. Kernels before 4.13 do not know the difference.
	Entry bool
}

// LookUp returns the kernel's route for a packet, according to all its rules and tables.
// Dst of the route is the address, unless it is an Entry. Kind RTN_LOCAL: the packet
// is for this host. ENETUNREACH: there is no route. EHOSTUNREACH, EACCES, EINVAL: the route
// is unreachable, prohibit, blackhole; the kernel also returns EHOSTUNREACH for a packet that
// has arrived and is not forwarded, and EXDEV and EINVAL for one whose source is not behind
// the device (rp_filter).
func (c *Conn) LookUp(ctx context.Context, q Query) (Route, error) {
	data := make([]byte, unix.SizeofRtMsg)
	data[0], data[1] = familyOf(q.To), byte(q.To.BitLen())
	if q.Entry {
		binary.NativeEndian.PutUint32(data[8:], unix.RTM_F_FIB_MATCH)
	}
	data = appendAttr(data, unix.RTA_DST, q.To.AsSlice())
	if q.From.IsValid() {
		data[2] = byte(q.From.BitLen())
		data = appendAttr(data, unix.RTA_SRC, q.From.AsSlice())
	}
	for _, device := range [...]struct {
		typ   uint16
		index int
	}{{unix.RTA_IIF, q.In}, {unix.RTA_OIF, q.Out}} {
		if device.index != 0 {
			data = appendAttr(data, device.typ, binary.NativeEndian.AppendUint32(nil, uint32(device.index)))
		}
	}
	if q.Proto == unix.IPPROTO_TCP || q.Proto == unix.IPPROTO_UDP { // the kernel refuses most others
		data = appendAttr(data, unix.RTA_IP_PROTO, []byte{q.Proto})
		for _, port := range [...]struct{ typ, n uint16 }{{unix.RTA_SPORT, q.SrcPort}, {unix.RTA_DPORT, q.DstPort}} {
			if port.n != 0 {
				data = appendAttr(data, port.typ, binary.BigEndian.AppendUint16(nil, port.n))
			}
		}
	}
	answers, err := c.exchange(ctx, unix.RTM_GETROUTE, 0, data)
	if err != nil {
		return Route{}, fmt.Errorf("find the route to %v: %w", q.To, err)
	}
	for _, m := range answers {
		if r, err := parseRoute(m.Data); err == nil {
			return r, nil
		}
	}
	return Route{}, fmt.Errorf("find the route to %v: %w: no route in the answer", q.To, errMalformed)
}

// message returns a struct rtmsg and its attributes: the kernel's, if the route was
// listed.
func (r *Route) message() []byte {
	if r.raw != nil {
		return r.with(r.Device, r.Device)
	}
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[3] = familyOf(r.Dst.Addr()), byte(r.Dst.Bits()), r.TOS
	b[5], b[7] = orDefault(r.Protocol, unix.RTPROT_BOOT), orDefault(r.Kind, unix.RTN_UNICAST)
	if b[7] == unix.RTN_UNICAST && !r.Gateway.IsValid() && r.Dst.Addr().Is4() {
		b[6] = unix.RT_SCOPE_LINK
	}
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.RTA_DST, r.Dst.Addr().AsSlice())
	ae.Uint32(unix.RTA_TABLE, orDefault(r.Table, unix.RT_TABLE_MAIN))
	if r.Device != 0 {
		ae.Uint32(unix.RTA_OIF, uint32(r.Device))
	}
	if r.Gateway.IsValid() {
		ae.Bytes(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.Src.IsValid() {
		ae.Bytes(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	if r.Metric != 0 {
		ae.Uint32(unix.RTA_PRIORITY, r.Metric)
	}
	b, _ = encode(b, ae) // fixed sizes
	return b
}

func orDefault[T uint8 | uint32](n, other T) T {
	if n == 0 {
		return other
	}
	return n
}

// with returns the kernel's description of the route with the device to instead of
// from, for a request.
func (r *Route) with(from, to int) []byte {
	b := slices.Clone(r.raw)
	// The kernel reports states of the link among the flags, but accepts none of them.
	binary.NativeEndian.PutUint32(b[8:], binary.NativeEndian.Uint32(b[8:])&unix.RTNH_F_ONLINK)
	hops(b, func(h hop) {
		if h.flags != nil {
			h.flags[0] &= unix.RTNH_F_ONLINK
		}
		if binary.NativeEndian.Uint32(h.index) == uint32(from) {
			binary.NativeEndian.PutUint32(h.index, uint32(to))
		}
	})
	return b
}

// parseRoute parses the data of an RTM_NEWROUTE message: struct rtmsg, which is family,
// dst_len, src_len, tos, table, protocol, scope, type, flags, and attributes.
func parseRoute(b []byte) (r Route, err error) {
	if len(b) < unix.SizeofRtMsg {
		return r, fmt.Errorf("%w: a route of %d bytes", errMalformed, len(b))
	}
	r.TOS, r.Table, r.Protocol, r.Kind = b[3], uint32(b[4]), b[5], b[7]
	var dst netip.Addr
	switch b[0] {
	case unix.AF_INET:
		dst = netip.IPv4Unspecified()
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return r, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_DST:
			a, _ := netip.AddrFromSlice(ad.Bytes())
			if a.BitLen() != dst.BitLen() {
				return r, fmt.Errorf("%w: a route to %d bytes of address", errMalformed, len(ad.Bytes()))
			}
			dst = a
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(ad.Bytes())
			r.indirect = true
		case unix.RTA_MULTIPATH, unix.RTA_VIA:
			r.indirect = true
		case unix.RTA_OIF:
			r.Device = int(int32(ad.Uint32()))
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_TABLE: // the header has 8 bits of it
			r.Table = ad.Uint32()
		case unix.RTA_PRIORITY:
			r.Metric = ad.Uint32()
		case unix.RTA_METRICS:
			ad.Nested(func(m *netlink.AttributeDecoder) error {
				for m.Next() {
					if m.Type() == unix.RTAX_MTU {
						r.MTU = int(m.Uint32())
					}
				}
				return nil
			})
		}
	}
	if err := ad.Err(); err != nil {
		return r, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if r.Dst = netip.PrefixFrom(dst, int(b[1])); !r.Dst.IsValid() {
		return r, fmt.Errorf("%w: a route of family %d to %v/%d", errMalformed, b[0], dst, b[1])
	}
	r.raw = slices.Clone(b)
	hops(b, func(h hop) { r.Devices = append(r.Devices, int(int32(binary.NativeEndian.Uint32(h.index)))) })
	return r, nil
}

// A hop is the position of a device in the data of a route: the index, 4 bytes, and
// flags (RTNH_F_…), one byte, or nil if they are those of the route.
type hop struct{ index, flags []byte }

// hops calls f with each hop of a route: that of RTA_OIF, and each struct rtnexthop in
// RTA_MULTIPATH. They alias b.
func hops(b []byte, f func(h hop)) {
	// struct rtattr: length with these four bytes, type; each begins at a multiple of 4.
	for rest := b[unix.SizeofRtMsg:]; len(rest) >= unix.SizeofRtAttr; {
		n := int(binary.NativeEndian.Uint16(rest))
		if n < unix.SizeofRtAttr || n > len(rest) {
			return
		}
		switch body := rest[unix.SizeofRtAttr:n]; binary.NativeEndian.Uint16(rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case unix.RTA_OIF:
			if len(body) == 4 {
				f(hop{index: body})
			}
		case unix.RTA_MULTIPATH:
			// struct rtnexthop: length with its attributes, flags, hops, index
			for len(body) >= unix.SizeofRtNexthop {
				f(hop{body[4:8], body[2:3]})
				n := align(int(binary.NativeEndian.Uint16(body)))
				if n < unix.SizeofRtNexthop || n > len(body) {
					break
				}
				body = body[n:]
			}
		}
		rest = rest[min(align(n), len(rest)):]
	}
}

func align(n int) int { return (n + 3) &^ 3 }

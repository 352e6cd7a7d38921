package rtnl

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Route is a unicast route into a device, of any table but that of the host's own
// addresses.
type Route struct {
	place
	index  int    // of the device
	order  int    // in which routes are made: one can be the way to the gateway of another
	kernel bool   // the kernel has made it, for an address of the device
	raw    []byte // the data of its message
}

// A place is what the kernel tells routes apart by when one replaces another.
type place struct {
	family, bits, tos uint8
	dst               netip.Addr // invalid: 0/0
	table, metric     uint32
}

// Hold puts an unreachable route in the place of each route into a device, in one
// message each: when the device goes, no other route takes their packets. Release
// takes them back. If one fails, those before it have been taken back.
func (c *Conn) Hold(ctx context.Context, index int) ([]Route, error) {
	l, err := c.routes(ctx, index)
	if err != nil {
		return nil, err
	}
	for _, r := range l {
		if err := c.hold(ctx, r); err != nil {
			return nil, errors.Join(err, c.Release(context.WithoutCancel(ctx), l, index))
		}
	}
	return l, nil
}

// HoldAgain holds routes that were released, but for those that the kernel has made:
// another device's can be first in their places by now.
func (c *Conn) HoldAgain(ctx context.Context, l []Route) error {
	for _, r := range l {
		if r.kernel {
			continue
		}
		if err := c.hold(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) hold(ctx context.Context, r Route) error {
	if err := c.change(ctx, unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, r.unreachable()); err != nil {
		return fmt.Errorf("hold the route %v: %w", r.place, err)
	}
	return nil
}

// Release has routes that were held lead into a device again, in one message each.
// The kernel itself has made those that come with the addresses of the device. What
// fails stays held; the error names it.
func (c *Conn) Release(ctx context.Context, l []Route, index int) error {
	var errs []error
	for _, r := range l {
		var err error
		if r.kernel {
			err = c.change(ctx, unix.RTM_DELROUTE, 0, r.unreachable())
		} else {
			err = c.change(ctx, unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, r.into(index))
		}
		if err != nil && !(r.kernel && errors.Is(err, unix.ESRCH)) {
			errs = append(errs, fmt.Errorf("the route %v is held and drops its packets: %w", r.place, err))
		}
	}
	return errors.Join(errs...)
}

// routes lists the routes into a device that packets take: the first ones in their
// places.
func (c *Conn) routes(ctx context.Context, index int) (l []Route, err error) {
	taken := map[place]bool{}
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
			r, devices, err := parseRoute(m.Data)
			if err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			r.index = index
			ours := m.Data[7] == unix.RTN_UNICAST && slices.Contains(devices, index) && !r.dst.IsLinkLocalUnicast()
			if ours && !taken[r.place] && r.table != unix.RT_TABLE_LOCAL {
				l = append(l, r)
			}
			taken[r.place] = true
		}
	}
	slices.SortStableFunc(l, func(a, b Route) int { return cmp.Compare(a.order, b.order) })
	return l, nil
}

// parseRoute reads the data of an RTM_NEWROUTE message: struct rtmsg, which is
// family, dst_len, src_len, tos, table, protocol, scope, type, flags, and attributes.
func parseRoute(b []byte) (r Route, devices []int, err error) {
	if len(b) < unix.SizeofRtMsg {
		return r, nil, fmt.Errorf("%w: a route of %d bytes", errMalformed, len(b))
	}
	r.family, r.bits, r.tos, r.table = b[0], b[1], b[3], uint32(b[4])
	r.kernel, r.order = b[5] == unix.RTPROT_KERNEL, 1
	if r.kernel {
		r.order = 0
	}
	r.raw = slices.Clone(b)
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return r, nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_DST:
			r.dst, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_TABLE: // the header has 8 bits of it
			r.table = ad.Uint32()
		case unix.RTA_PRIORITY:
			r.metric = ad.Uint32()
		case unix.RTA_GATEWAY, unix.RTA_MULTIPATH, unix.RTA_VIA:
			r.order = 2
		}
	}
	if err := ad.Err(); err != nil {
		return r, nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	hops(b, func(h hop) { devices = append(devices, int(int32(binary.NativeEndian.Uint32(h.index)))) })
	return r, devices, nil
}

// A hop is where the data of a route has a device: the index, 4 bytes, and flags
// (RTNH_F_…), a byte, or nil where they are those of the route.
type hop struct{ index, flags []byte }

// hops calls f with each hop of a route: that of RTA_OIF, and each struct rtnexthop
// in RTA_MULTIPATH. They lie in b.
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

// into is the route with another device in the place of that which it had.
func (r *Route) into(index int) []byte {
	b := slices.Clone(r.raw)
	// The kernel tells states of the link among the flags, and takes none back.
	binary.NativeEndian.PutUint32(b[8:], binary.NativeEndian.Uint32(b[8:])&unix.RTNH_F_ONLINK)
	hops(b, func(h hop) {
		if h.flags != nil {
			h.flags[0] &= unix.RTNH_F_ONLINK
		}
		if binary.NativeEndian.Uint32(h.index) == uint32(r.index) {
			binary.NativeEndian.PutUint32(h.index, uint32(index))
		}
	})
	return b
}

// unreachable is the unreachable route in the same place.
func (r *Route) unreachable() []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[3], b[4] = r.family, r.bits, r.tos, r.raw[4]
	b[5], b[7] = unix.RTPROT_BOOT, unix.RTN_UNREACHABLE
	ae := netlink.NewAttributeEncoder()
	if r.dst.IsValid() {
		ae.Bytes(unix.RTA_DST, r.dst.AsSlice())
	}
	ae.Uint32(unix.RTA_TABLE, r.table)
	if r.metric != 0 {
		ae.Uint32(unix.RTA_PRIORITY, r.metric)
	}
	b, _ = encode(b, ae) // fixed sizes
	return b
}

// String returns the place in the words of ip route.
func (p place) String() string {
	var sb strings.Builder
	if p.bits == 0 {
		sb.WriteString("default")
	} else {
		fmt.Fprintf(&sb, "%v/%d", p.dst, p.bits)
	}
	if p.table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&sb, " table %d", p.table)
	}
	if p.metric != 0 {
		fmt.Fprintf(&sb, " metric %d", p.metric)
	}
	return sb.String()
}

package rtnl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/arrange"
)

// A Held is a unicast route into a device that can be held, in any table except that of
// the host's own addresses.
type Held struct {
	route Route
	index int // of the device
}

// kernel reports whether the kernel made the route, for an address of the device.
func (h *Held) kernel() bool { return h.route.Protocol == unix.RTPROT_KERNEL }

// order is the order in which routes must be made: one may lead to another's gateway.
func (h *Held) order() int {
	switch {
	case h.route.indirect:
		return 2
	case h.kernel():
		return 0
	}
	return 1
}

// A place has the fields by which the kernel finds the route that a new one replaces.
type place struct {
	dst           netip.Prefix
	tos           uint8
	table, metric uint32
}

func (r *Route) place() place { return place{r.Dst, r.TOS, r.Table, r.Metric} }

// Hold replaces each route into a device with an unreachable one, in one message each.
// When the device is removed, no other route takes their packets. [Conn.Release]
// restores them. If one replacement fails, the earlier ones are undone.
func (c *Conn) Hold(ctx context.Context, index int) ([]Held, error) {
	l, err := c.into(ctx, index)
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

// HoldAgain holds released routes again, except for those that the kernel made: another
// device's route may be first in their places now.
func (c *Conn) HoldAgain(ctx context.Context, l []Held) error {
	for _, r := range l {
		if r.kernel() {
			continue
		}
		if err := c.hold(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) hold(ctx context.Context, r Held) error {
	if err := c.change(ctx, unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, r.unreachable()); err != nil {
		return fmt.Errorf("hold the route %v: %w", r.route.place(), err)
	}
	return nil
}

// Release restores held routes, into a device, in one message each. The kernel has
// already made the routes for the device's addresses. A route whose restoring fails
// stays unreachable; the error names it.
func (c *Conn) Release(ctx context.Context, l []Held, index int) error {
	var errs []error
	for _, r := range l {
		var err error
		if r.kernel() {
			err = c.change(ctx, unix.RTM_DELROUTE, 0, r.unreachable())
		} else {
			err = c.change(ctx, unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, r.route.with(r.index, index))
		}
		if err != nil && !(r.kernel() && errors.Is(err, unix.ESRCH)) {
			errs = append(errs, fmt.Errorf("the route %v is held and drops its packets: %w", r.route.place(), err))
		}
	}
	return errors.Join(errs...)
}

// into lists the routes into a device that packets use: the first ones in their places.
func (c *Conn) into(ctx context.Context, index int) (l []Held, err error) {
	all, err := c.Routes(ctx)
	if err != nil {
		return nil, err
	}
	taken := map[place]bool{}
	for _, r := range all {
		ours := r.Kind == unix.RTN_UNICAST && slices.Contains(r.Devices, index) && !r.Dst.Addr().IsLinkLocalUnicast()
		if ours && !taken[r.place()] && r.Table != unix.RT_TABLE_LOCAL {
			l = append(l, Held{r, index})
		}
		taken[r.place()] = true
	}
	arrange.Stable(l, func(a, b Held) int { return cmp.Compare(a.order(), b.order()) })
	return l, nil
}

// unreachable returns the unreachable route in the same place.
func (h *Held) unreachable() []byte {
	r := &h.route
	u := Route{Dst: r.Dst, Metric: r.Metric, Table: r.Table, TOS: r.TOS, Kind: unix.RTN_UNREACHABLE}
	return u.message()
}

// String returns the place in the form of ip route.
func (p place) String() string {
	var sb strings.Builder
	if p.dst.Bits() == 0 {
		sb.WriteString("default")
	} else {
		sb.WriteString(p.dst.String())
	}
	if p.table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&sb, " table %d", p.table)
	}
	if p.metric != 0 {
		fmt.Fprintf(&sb, " metric %d", p.metric)
	}
	return sb.String()
}

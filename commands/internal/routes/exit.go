package routes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// Exit returns the device through which packets of this host to a network leave. The
// kernel decides, with all rules and tables, for one address in the middle of the
// network. The result is "" if packets do not leave: there is no route, the route drops
// them, or the address belongs to this host.
func Exit(dst netip.Prefix) (device string, err error) {
	index := 0
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		index, err = c.Exit(ctx, middle(dst))
		return err
	})
	if err != nil || index == 0 {
		return "", err
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", nil // the device has just been removed
	}
	return i.Name, nil
}

// A Way is how packets of this host to an address leave.
type Way struct {
	Device  string
	Src     netip.Addr // the source address that the kernel chooses; invalid: none
	Gateway netip.Addr // invalid: none
	MTU     int        // of the route, in bytes; 0: that of the device
}

// WayTo returns how packets of this host to an address leave, as the kernel decides with all
// rules and tables. ok is false if they do not leave.
func WayTo(dst netip.Addr) (w Way, ok bool, err error) {
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		r, found, err := c.Way(ctx, dst)
		if !found || err != nil {
			return err
		}
		i, err := net.InterfaceByIndex(r.Device)
		if err != nil {
			return nil // the device has just been removed
		}
		w, ok = Way{i.Name, r.Src, r.Gateway, r.MTU}, true
		return nil
	})
	return w, ok, err
}

// MTU returns the MTU of the route to an address by a device, whatever other routes there are, in
// bytes; 0: it has none, or there is no such route.
func MTU(dst netip.Addr, device string) (mtu int, err error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", device, err)
	}
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		r, err := c.LookUp(ctx, rtnl.Query{To: dst, Out: i.Index, Entry: true})
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return nil
		}
		mtu = r.MTU
		return err
	})
	return mtu, err
}

// middle returns an address in the middle of a network, odd if possible: the first
// addresses can have special meanings (0.0.0.0/8, ::1, a broadcast address).
func middle(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	n := p.Bits()
	if n < len(b)*8-1 {
		b[n/8] |= 0x80 >> (n % 8)
	}
	if n < len(b)*8 {
		b[len(b)-1] |= 1
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

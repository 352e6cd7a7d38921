// Package links brings network devices up and gives them addresses, in the network
// namespace of the caller.
package links

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/rtnl"
)

// IsVirtual reports whether a name is that of a virtual device ipsecN.
func IsVirtual(name string) bool {
	n, ok := klips.DeviceNumber(name)
	return ok && n < klips.MaxDevices
}

// IsUp reports whether a device is up. ENODEV: there is no such device.
func IsUp(device string) (bool, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return false, unix.ENODEV
	}
	return i.Flags&net.FlagUp != 0, nil
}

// SetUp sets a device up or down. ENODEV: there is no such device. EPERM: the caller
// lacks the right.
func SetUp(device string, up bool) error {
	return change(device, func(ctx context.Context, c *rtnl.Conn, index int) error { return c.SetUp(ctx, index, up) })
}

// MTU returns the MTU of a device, in bytes. ENODEV: there is no such device.
func MTU(device string) (int, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0, unix.ENODEV
	}
	return i.MTU, nil
}

// SetMTU changes the MTU of a device. ENODEV: there is no such device. EINVAL: the device
// cannot have this MTU. EPERM: the caller lacks the right.
func SetMTU(device string, mtu int) error {
	return change(device, func(ctx context.Context, c *rtnl.Conn, index int) error { return c.SetMTU(ctx, index, mtu) })
}

// Addresses returns the addresses of this host.
func Addresses() (l []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				l = append(l, ip.Unmap())
			}
		}
	}
	return l, err
}

// AddAddress adds an address to a device, without duplicate address detection, because
// the host has the address already. EEXIST: the device has it.
func AddAddress(device string, p netip.Prefix) error {
	return change(device, func(ctx context.Context, c *rtnl.Conn, index int) error {
		return c.AddAddr(ctx, rtnl.Addr{Index: index, Prefix: p, NoDAD: true})
	})
}

// RemoveAddress removes an address from a device. EADDRNOTAVAIL: the device does not
// have it.
func RemoveAddress(device string, p netip.Prefix) error {
	return change(device, func(ctx context.Context, c *rtnl.Conn, index int) error {
		return c.DeleteAddr(ctx, rtnl.Addr{Index: index, Prefix: p})
	})
}

// change calls f with a connection to rtnetlink and the index of a device.
func change(device string, f func(ctx context.Context, c *rtnl.Conn, index int) error) error {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return unix.ENODEV
	}
	return rtnl.With(func(ctx context.Context, c *rtnl.Conn) error { return f(ctx, c, i.Index) })
}

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

// Package links brings network devices up and gives them addresses, through
// rtnetlink, in the network namespace of the caller.
package links

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// IsVirtual reports whether a device is an ipsecN by its name.
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

// SetUp brings a device up, or down. ENODEV: there is no such device. EPERM: the
// caller may not.
func SetUp(device string, up bool) error {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	// struct ifinfomsg: family, type, index, flags, and the mask of those that
	// change.
	return request(device, unix.RTM_NEWLINK, 0, func(index uint32) ([]byte, error) {
		m := make([]byte, unix.SizeofIfInfomsg)
		put(m[4:], index)
		put(m[8:], flags)
		put(m[12:], unix.IFF_UP)
		return m, nil
	})
}

// AddAddress gives a device an address, which needs no duplicate address
// detection because the host has it already. EEXIST: the device has it.
func AddAddress(device string, p netip.Prefix) error {
	return request(device, unix.RTM_NEWADDR, netlink.Create|netlink.Excl, address(p))
}

// RemoveAddress takes an address from a device. EADDRNOTAVAIL: it has none such.
func RemoveAddress(device string, p netip.Prefix) error {
	return request(device, unix.RTM_DELADDR, 0, address(p))
}

// address makes a struct ifaddrmsg and its attributes.
func address(p netip.Prefix) func(index uint32) ([]byte, error) {
	return func(index uint32) ([]byte, error) {
		m := make([]byte, unix.SizeofIfAddrmsg)
		m[0], m[1], m[2] = unix.AF_INET, byte(p.Bits()), unix.IFA_F_PERMANENT
		if p.Addr().Is6() {
			m[0] = unix.AF_INET6
			m[2] |= unix.IFA_F_NODAD
		}
		put(m[4:], index)
		e := netlink.NewAttributeEncoder()
		e.Bytes(unix.IFA_LOCAL, p.Addr().AsSlice())
		e.Bytes(unix.IFA_ADDRESS, p.Addr().AsSlice())
		attrs, err := e.Encode()
		return append(m, attrs...), err
	}
}

// request sends a change of a device and waits for the answer. Errors are
// syscall.Errno, as far as they are the kernel's answer.
func request(device string, kind netlink.HeaderType, flags netlink.HeaderFlags, body func(index uint32) ([]byte, error)) error {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return unix.ENODEV
	}
	data, err := body(uint32(i.Index))
	if err != nil {
		return err
	}
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

func put(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }

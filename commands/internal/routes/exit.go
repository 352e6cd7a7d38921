package routes

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Exit returns the device that packets of this host to a network leave by, as the
// kernel decides for one address in the middle of the network, by all rules and
// tables. It is "" if they do not leave: there is no route, or one that drops them,
// or the address is this host's own.
func Exit(dst netip.Prefix) (device string, err error) {
	a := middle(dst)
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = unix.AF_INET
	if a.Is6() {
		head[0] = unix.AF_INET6
	}
	head[1] = byte(a.BitLen())
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.RTA_DST, a.AsSlice())
	attrs, err := e.Encode()
	if err != nil {
		return "", err
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return "", err
	}
	defer c.Close()
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request},
		Data:   append(head, attrs...),
	})
	// The errors of routes that drop, as ip-route(8) lists them, and of no route.
	for _, errno := range []syscall.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL} {
		if errors.Is(err, errno) {
			return "", nil
		}
	}
	if err != nil {
		return "", err
	}
	for _, m := range msgs {
		if index, ok := exit(m.Data); ok {
			i, err := net.InterfaceByIndex(int(index))
			if err != nil {
				return "", nil // it has gone just now
			}
			return i.Name, nil
		}
	}
	return "", nil
}

// exit reads the index of the device from the kernel's answer.
func exit(b []byte) (index uint32, ok bool) {
	if len(b) < unix.SizeofRtMsg || b[7] != unix.RTN_UNICAST {
		return 0, false
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return 0, false
	}
	for ad.Next() {
		if ad.Type() == unix.RTA_OIF {
			index = number(ad.Bytes())
		}
	}
	return index, ad.Err() == nil && index != 0
}

// middle returns an address in the middle of a network, odd if possible: the first
// ones can mean something else (0.0.0.0/8, ::1, a broadcast address).
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

package routes

import (
	"context"
	"net"
	"net/netip"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// Exit returns the device that packets of this host to a network leave by, as the
// kernel decides for one address in the middle of the network, by all rules and
// tables. It is "" if they do not leave: there is no route, or one that drops them,
// or the address is this host's own.
func Exit(dst netip.Prefix) (device string, err error) {
	index := 0
	err = with(func(ctx context.Context, c *rtnl.Conn) error {
		index, err = c.Exit(ctx, middle(dst))
		return err
	})
	if err != nil || index == 0 {
		return "", err
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", nil // it has gone just now
	}
	return i.Name, nil
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

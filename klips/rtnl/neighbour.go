package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A Neighbour is an entry of the kernel's table of neighbours: a host on the link of a
// device, found by ARP (RFC 826) or neighbour discovery (RFC 4861).
type Neighbour struct {
	Device int // its index
	Addr   netip.Addr
	Link   [6]byte // its Ethernet address; zero if it is not usable
	// Usable reports that the kernel sends packets to Link now. It does that also while it
	// checks whether the neighbour is still there. Neighbours without an Ethernet address
	// are not usable.
	Usable bool
}

// valid are the states in which the kernel uses the link-layer address (NUD_VALID).
const valid = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT | unix.NUD_NOARP

// Neighbour returns the entry of an address on a device; one that is not usable if the
// kernel has none.
func (c *Conn) Neighbour(ctx context.Context, device int, addr netip.Addr) (Neighbour, error) {
	data := make([]byte, unix.SizeofNdMsg)
	data[0] = familyOf(addr)
	binary.NativeEndian.PutUint32(data[4:], uint32(device))
	answers, err := c.exchange(ctx, unix.RTM_GETNEIGH, 0, appendAttr(data, unix.NDA_DST, addr.AsSlice()))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return Neighbour{}, fmt.Errorf("find the neighbour %v: %w", addr, err)
	}
	for _, m := range answers {
		if n := parseNeighbour(m.Data); n.Addr == addr && n.Device == device {
			return n, nil
		}
	}
	return Neighbour{Device: device, Addr: addr}, nil
}

// parseNeighbour parses the data of an RTM_NEWNEIGH message: struct ndmsg, which is family,
// 3 bytes of padding, index, state, flags, type, and attributes. The address is invalid if
// the message is malformed, or not about an IP address, as those of bridges are not.
func parseNeighbour(b []byte) (n Neighbour) {
	if len(b) < unix.SizeofNdMsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return n
	}
	n.Device = int(int32(binary.NativeEndian.Uint32(b[4:])))
	n.Usable = binary.NativeEndian.Uint16(b[8:])&valid != 0
	found := false
	for rest := b[unix.SizeofNdMsg:]; len(rest) >= unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < unix.SizeofRtAttr || size > len(rest) {
			return Neighbour{}
		}
		switch body := rest[unix.SizeofRtAttr:size]; binary.NativeEndian.Uint16(rest[2:]) {
		case unix.NDA_DST:
			n.Addr, _ = netip.AddrFromSlice(body)
		case unix.NDA_LLADDR:
			if len(body) == len(n.Link) {
				n.Link, found = [6]byte(body), true
			}
		}
		rest = rest[min(align(size), len(rest)):]
	}
	if n.Addr.IsValid() && familyOf(n.Addr) != b[0] {
		return Neighbour{}
	}
	if n.Usable = n.Usable && found; !n.Usable {
		n.Link = [6]byte{}
	}
	return n
}

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// vethInfoPeer is VETH_INFO_PEER: the attribute that holds the other end's
// ifinfomsg and attributes.
const vethInfoPeer = 1

// lastIndex is the last interface index that Cable has used. Both ends of a cable need
// different indexes: if they are equal, as they would be for the first devices of two
// hosts, the kernel takes up to a second to detect the carrier.
var lastIndex atomic.Int32

// Cable creates a pair of virtual ethernet devices, one end in each host, and sets both
// up. It returns when packets can pass.
func Cable(a *Host, devA string, b *Host, devB string) error {
	peer := netlink.NewAttributeEncoder()
	peer.String(unix.IFLA_IFNAME, devB)
	peer.Uint32(unix.IFLA_NET_NS_FD, uint32(b.ns.Fd()))
	pb, err := peer.Encode()
	if err != nil {
		return err
	}
	index := int(lastIndex.Add(2)) + 100 // the kernel itself uses lower numbers
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.IFLA_IFNAME, devA)
	ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
		info.String(unix.IFLA_INFO_KIND, "veth")
		info.Nested(unix.IFLA_INFO_DATA, func(data *netlink.AttributeEncoder) error {
			data.Bytes(vethInfoPeer, append(ifinfo(index+1, 0, 0), pb...))
			return nil
		})
		return nil
	})
	if err := a.route(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, ifinfo(index, 0, 0), ae); err != nil {
		return fmt.Errorf("cable %s:%s - %s:%s: %w", a.Name, devA, b.Name, devB, err)
	}
	if err := errors.Join(a.Up(devA), b.Up(devB)); err != nil {
		return err
	}
	return errors.Join(a.awaitCarrier(devA), b.awaitCarrier(devB))
}

// States of devices, as IFLA_OPERSTATE numbers them.
const (
	operUnknown = 0 // for devices without a carrier, such as lo
	operUp      = 6
)

// awaitCarrier waits until a device works: the kernel enables it in a work queue, and
// drops packets before that.
func (h *Host) awaitCarrier(dev string) error {
	i, err := h.index(dev)
	if err != nil {
		return err
	}
	var failed error
	if err := Await(func() bool {
		state, err := h.operState(i)
		if err != nil {
			failed = fmt.Errorf("%s: state of %s: %w", h.Name, dev, err)
		}
		return err != nil || state == operUp
	}); err != nil {
		return fmt.Errorf("%s: %s gets no carrier: %w", h.Name, dev, err)
	}
	if failed != nil {
		return failed
	}
	// The state changes a moment before the queue opens. Both happen under the lock of
	// all changes, so a change without effect waits for it.
	return h.Up(dev)
}

// operState returns a device's state in Linux' numbers (RFC 2863).
func (h *Host) operState(index int) (uint8, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: int(h.ns.Fd())})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   ifinfo(index, 0, 0),
	})
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		if len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == unix.IFLA_OPERSTATE {
				return ad.Uint8(), ad.Err()
			}
		}
	}
	return 0, errors.New("the kernel does not say")
}

// Up sets a device up.
func (h *Host) Up(dev string) error { return h.setLink(dev, unix.IFF_UP, unix.IFF_UP, nil) }

// Down sets a device down.
func (h *Host) Down(dev string) error { return h.setLink(dev, 0, unix.IFF_UP, nil) }

// SetMTU sets a device's MTU in bytes.
func (h *Host) SetMTU(dev string, mtu int) error {
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(unix.IFLA_MTU, uint32(mtu))
	return h.setLink(dev, 0, 0, ae)
}

func (h *Host) setLink(dev string, flags, mask uint32, ae *netlink.AttributeEncoder) error {
	i, err := h.index(dev)
	if err != nil {
		return err
	}
	if ae == nil {
		ae = netlink.NewAttributeEncoder()
	}
	if err := h.route(unix.RTM_NEWLINK, 0, ifinfo(i, flags, mask), ae); err != nil {
		return fmt.Errorf("%s: set %s: %w", h.Name, dev, err)
	}
	return nil
}

// AddAddr adds an address to a device; the prefix length determines the network that is
// reached through it. If the device is up, the address works when AddAddr returns.
func (h *Host) AddAddr(dev string, p netip.Prefix) error {
	i, err := h.index(dev)
	if err != nil {
		return err
	}
	// struct ifaddrmsg: family, prefix length, flags, scope, index.
	msg := []byte{family(p.Addr()), byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	msg = binary.NativeEndian.AppendUint32(msg, uint32(i))
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.IFA_LOCAL, p.Addr().AsSlice())
	ae.Bytes(unix.IFA_ADDRESS, p.Addr().AsSlice())
	if err := h.route(unix.RTM_NEWADDR, netlink.Create|netlink.Excl, msg, ae); err != nil {
		return fmt.Errorf("%s: address %s on %s: %w", h.Name, p, dev, err)
	}
	if state, err := h.operState(i); err != nil || p.Addr().Is4() || state != operUp && state != operUnknown {
		return err // an IPv6 address works only when the device is up
	}
	return h.awaitAddr(p.Addr())
}

// awaitAddr waits until the host accepts packets to an IPv6 address: the kernel adds
// the local route in a work queue.
func (h *Host) awaitAddr(a netip.Addr) error {
	const local = 0x80000000 // RTF_LOCAL
	text := fmt.Sprintf("%x", a.AsSlice())
	var failed error
	if err := Await(func() bool {
		var table []byte
		failed = h.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/ipv6_route")
			return err
		})
		for line := range strings.Lines(string(table)) {
			// Destination, its length in hex, six columns that are not used here,
			// flags, device.
			f := strings.Fields(line)
			if len(f) < 10 || f[0] != text || f[1] != "80" {
				continue
			}
			if flags, err := strconv.ParseUint(f[8], 16, 32); err == nil && flags&local != 0 {
				return true
			}
		}
		return failed != nil
	}); err != nil {
		return fmt.Errorf("%s: address %s does not come up: %w", h.Name, a, err)
	}
	return failed
}

// A Route sends packets to Dst through the gateway Via, the device Dev or both. Src, if
// valid, is the source address of the host's own packets.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr
	Dev string
	Src netip.Addr
}

// AddRoute adds a route, or replaces the route with the same destination.
func (h *Host) AddRoute(r Route) error {
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if !r.Via.IsValid() && r.Dst.Addr().Is4() {
		scope = unix.RT_SCOPE_LINK
	}
	msg := []byte{family(r.Dst.Addr()), byte(r.Dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, scope, unix.RTN_UNICAST, 0, 0, 0, 0}
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.RTA_DST, r.Dst.Masked().Addr().AsSlice())
	if r.Via.IsValid() {
		ae.Bytes(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.Src.IsValid() {
		ae.Bytes(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	if r.Dev != "" {
		i, err := h.index(r.Dev)
		if err != nil {
			return err
		}
		ae.Uint32(unix.RTA_OIF, uint32(i))
	}
	if err := h.route(unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, msg, ae); err != nil {
		return fmt.Errorf("%s: route to %s: %w", h.Name, r.Dst, err)
	}
	return nil
}

// HasDevice reports whether the host has a device of that name.
func (h *Host) HasDevice(dev string) bool {
	_, err := h.index(dev)
	return err == nil
}

// index returns a device's index.
func (h *Host) index(dev string) (int, error) {
	var i int
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName(dev)
		if err != nil {
			return fmt.Errorf("%s: device %s: %w", h.Name, dev, err)
		}
		i = ifi.Index
		return nil
	})
	return i, err
}

// route sends one rtnetlink request in the host and waits for the answer.
func (h *Host) route(typ uint16, flags netlink.HeaderFlags, body []byte, ae *netlink.AttributeEncoder) error {
	attrs, err := ae.Encode()
	if err != nil {
		return err
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: int(h.ns.Fd())})
	if err != nil {
		return err
	}
	defer c.Close()
	return request(c, typ, flags, append(body, attrs...))
}

func request(c *netlink.Conn, typ uint16, flags netlink.HeaderFlags, data []byte) error {
	_ = c.SetOption(netlink.ExtendedAcknowledge, true) // kernels before 4.12 do not have it
	_, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return err
}

// upLoopback sets lo up in the namespace of the calling thread.
func upLoopback() error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return request(c, unix.RTM_NEWLINK, 0, ifinfo(1, unix.IFF_UP, unix.IFF_UP))
}

// ifinfo returns a struct ifinfomsg.
func ifinfo(index int, flags, mask uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], mask)
	return b
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Package rtnl uses rtnetlink for all of this program: it makes, lists and watches
// network devices, their addresses and routes, and holds the routes into a device while
// the device is replaced.
package rtnl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Conn is a connection to rtnetlink in one network namespace. Its methods may
// be called from several goroutines; they take turns. When a context ends, they
// return its error.
type Conn struct {
	mu   sync.Mutex
	sock *netlink.Conn
}

// Dial connects to the network namespace of the calling thread; the connection
// stays there.
func Dial() (*Conn, error) {
	n, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{MessageBufferSize: 64 << 10})
	if err != nil {
		return nil, fmt.Errorf("connect to rtnetlink: %w", err)
	}
	for _, o := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.GetStrictCheck} {
		if err := n.SetOption(o, true); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			n.Close()
			return nil, fmt.Errorf("connect to rtnetlink: %w", err)
		}
	}
	return &Conn{sock: n}, nil
}

// Close closes the connection. The kernel's objects stay.
func (c *Conn) Close() error { return c.sock.Close() }

// patience is how long the kernel may take for one task of [With]. Only a fault takes so
// long.
const patience = time.Minute

// With calls f with a connection to the network namespace of the calling thread, and
// closes it. The context ends after a minute. Errors are those of [Dial] and of f.
func With(f func(ctx context.Context, c *Conn) error) error {
	c, err := Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f(ctx, c)
}

// A Link is a network device.
type Link struct {
	Index int
	Name  string
	Kind  string // as ip link's type, "" for devices without one
	MTU   int    // bytes
	Up    bool
	// Carrier reports that packets can leave; a TUN device has it while a process reads
	// it.
	Carrier bool
	Alias   string
	IfID    uint32 // of kind xfrm: its interface ID
	Parent  int    // of kind xfrm: the index of the device below, 0 for none
	Stats   Stats
}

// Stats are a device's counters.
type Stats struct { // struct rtnl_link_stats64
	RxPackets, TxPackets, RxBytes, TxBytes, RxErrors, TxErrors, RxDropped, TxDropped uint64
}

// A Spec specifies a new device.
type Spec struct {
	Name   string
	Kind   string
	MTU    int // 0: the kernel's default
	Up     bool
	Alias  string
	IfID   uint32
	Parent int
}

// An Addr is an address of a device.
type Addr struct {
	Index  int // of the device
	Prefix netip.Prefix
	Scope  uint8 // as the kernel numbers them
	// Unsure reports that the address may not be unique on its link, so the kernel does
	// not use it: duplicate address detection has not ended, or has failed.
	Unsure bool
	// NoDAD makes a new IPv6 address usable at once, without duplicate address
	// detection (RFC 4862 section 5.4).
	NoDAD bool
}

// Attributes of <linux/if_link.h> that package unix does not have.
const (
	infoXfrmLink = 1 // IFLA_XFRM_LINK
	infoXfrmIfID = 2 // IFLA_XFRM_IF_ID
)

// tries is how often a dump is repeated after a change has disturbed it.
const tries = 10

// exchange sends a request and returns the answers.
func (c *Conn) exchange(ctx context.Context, typ uint16, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline() // zero means none
	if err := c.sock.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { c.sock.SetDeadline(time.Unix(1, 0)) })()
	m := netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | flags}, Data: data}
	answers, err := c.sock.Execute(m)
	if cause := ctx.Err(); err != nil && cause != nil {
		return nil, cause
	}
	return answers, err
}

// change carries out one change.
func (c *Conn) change(ctx context.Context, typ uint16, flags netlink.HeaderFlags, data []byte) error {
	_, err := c.exchange(ctx, typ, flags|netlink.Acknowledge, data)
	return err
}

// dump lists all objects of a type.
func (c *Conn) dump(ctx context.Context, typ uint16, data []byte) (answers []netlink.Message, err error) {
	for range tries {
		if answers, err = c.exchange(ctx, typ, netlink.Dump, data); err != nil {
			return nil, err
		}
		whole := true
		for _, m := range answers {
			whole = whole && m.Header.Flags&netlink.DumpInterrupted == 0
		}
		if whole {
			break
		}
	}
	return answers, nil
}

// Links lists the devices, by index.
func (c *Conn) Links(ctx context.Context) ([]Link, error) {
	answers, err := c.dump(ctx, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var l []Link
	for _, m := range answers {
		if m.Header.Type != unix.RTM_NEWLINK {
			continue
		}
		k, err := parseLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		l = append(l, k)
	}
	return l, nil
}

// Link returns one device. ENODEV: no device has that name.
func (c *Conn) Link(ctx context.Context, name string) (Link, error) {
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.IFLA_IFNAME, name)
	data, err := encode(ifinfo(0, 0, 0), ae)
	if err != nil {
		return Link{}, err
	}
	answers, err := c.exchange(ctx, unix.RTM_GETLINK, 0, data)
	if err != nil {
		return Link{}, fmt.Errorf("device %s: %w", name, err)
	}
	for _, m := range answers {
		if m.Header.Type == unix.RTM_NEWLINK {
			return parseLink(m.Data)
		}
	}
	return Link{}, fmt.Errorf("device %s: %w", name, unix.ENODEV)
}

// Add makes a device. EEXIST: its name exists, or an xfrm interface with its ID.
// EOPNOTSUPP: the kernel does not have the kind.
func (c *Conn) Add(ctx context.Context, s Spec) error {
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.IFLA_IFNAME, s.Name)
	if s.MTU != 0 {
		ae.Uint32(unix.IFLA_MTU, uint32(s.MTU))
	}
	if s.Alias != "" {
		ae.Bytes(unix.IFLA_IFALIAS, []byte(s.Alias))
	}
	ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
		info.String(unix.IFLA_INFO_KIND, s.Kind)
		if s.IfID == 0 && s.Parent == 0 {
			return nil
		}
		info.Nested(unix.IFLA_INFO_DATA, func(data *netlink.AttributeEncoder) error {
			if s.Parent != 0 {
				data.Uint32(infoXfrmLink, uint32(s.Parent))
			}
			data.Uint32(infoXfrmIfID, s.IfID)
			return nil
		})
		return nil
	})
	var flags uint32
	if s.Up {
		flags = unix.IFF_UP
	}
	data, err := encode(ifinfo(0, flags, flags), ae)
	if err == nil {
		err = c.change(ctx, unix.RTM_NEWLINK, netlink.Create|netlink.Excl, data)
	}
	if err != nil {
		return fmt.Errorf("make device %s of kind %s: %w", s.Name, s.Kind, err)
	}
	if s.Alias == "" {
		return nil
	}
	// The request that makes a device ignores the alias.
	l, err := c.Link(ctx, s.Name)
	if err == nil {
		err = c.SetAlias(ctx, l.Index, s.Alias)
	}
	return err
}

// SetUp brings a device up, or down. ENODEV: no device has that index.
func (c *Conn) SetUp(ctx context.Context, index int, up bool) error {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	if err := c.change(ctx, unix.RTM_NEWLINK, 0, ifinfo(index, flags, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set device %d up or down: %w", index, err)
	}
	return nil
}

// setLink changes an attribute of a device; what is for the error, with a verb for the index.
func (c *Conn) setLink(ctx context.Context, index int, what string, set func(*netlink.AttributeEncoder)) error {
	ae := netlink.NewAttributeEncoder()
	set(ae)
	data, err := encode(ifinfo(index, 0, 0), ae)
	if err == nil {
		err = c.change(ctx, unix.RTM_NEWLINK, 0, data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", fmt.Sprintf(what, index), err)
	}
	return nil
}

// SetMTU gives a device another MTU, in bytes. ENODEV: no device has that index. EINVAL: the
// device cannot have this MTU.
func (c *Conn) SetMTU(ctx context.Context, index, mtu int) error {
	return c.setLink(ctx, index, "set MTU of device %d", func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.IFLA_MTU, uint32(mtu)) })
}

// SetAlias gives a device another alias. ENODEV: no device has that index.
func (c *Conn) SetAlias(ctx context.Context, index int, alias string) error {
	return c.setLink(ctx, index, "set the alias of device %d", func(ae *netlink.AttributeEncoder) { ae.Bytes(unix.IFLA_IFALIAS, []byte(alias)) })
}

// genModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const genModeNone = 1

// NoLinkLocal stops the kernel from giving a device an IPv6 link-local address when it
// comes up. ENODEV: no device has that index. EAFNOSUPPORT or EOPNOTSUPP: the kernel
// has no IPv6, so it gives no address either.
func (c *Conn) NoLinkLocal(ctx context.Context, index int) error {
	return c.setLink(ctx, index, "let device %d have no link-local address", func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_AF_SPEC, func(families *netlink.AttributeEncoder) error {
			families.Nested(unix.AF_INET6, func(six *netlink.AttributeEncoder) error {
				six.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, genModeNone)
				return nil
			})
			return nil
		})
	})
}

// Delete removes a device. ENODEV: no device has that index.
func (c *Conn) Delete(ctx context.Context, index int) error {
	if err := c.change(ctx, unix.RTM_DELLINK, 0, ifinfo(index, 0, 0)); err != nil {
		return fmt.Errorf("remove device %d: %w", index, err)
	}
	return nil
}

// Addrs lists the addresses of all devices.
func (c *Conn) Addrs(ctx context.Context) ([]Addr, error) {
	answers, err := c.dump(ctx, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var l []Addr
	for _, m := range answers {
		if m.Header.Type != unix.RTM_NEWADDR {
			continue
		}
		a, err := parseAddr(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if a.Prefix.IsValid() {
			l = append(l, a)
		}
	}
	return l, nil
}

// AddAddr adds an address to a device. EEXIST: the device has it.
func (c *Conn) AddAddr(ctx context.Context, a Addr) error {
	if err := c.change(ctx, unix.RTM_NEWADDR, netlink.Create|netlink.Excl, a.message()); err != nil {
		return fmt.Errorf("add address %v to device %d: %w", a.Prefix, a.Index, err)
	}
	return nil
}

// DeleteAddr removes an address from a device. EADDRNOTAVAIL: the device does not have
// it.
func (c *Conn) DeleteAddr(ctx context.Context, a Addr) error {
	if err := c.change(ctx, unix.RTM_DELADDR, 0, a.message()); err != nil {
		return fmt.Errorf("take address %v from device %d: %w", a.Prefix, a.Index, err)
	}
	return nil
}

package engine

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Host is the machine that an engine works on, or a double of one.
type Host interface {
	// OpenLink makes the virtual device name (ipsecN), down and without addresses. If a
	// process before has left the device, OpenLink opens that one. EEXIST or EBUSY:
	// another device has that name, or a program uses the device.
	OpenLink(name string) (Link, error)
	// LeftLinks returns the virtual devices that were left. They were kept and closed, or
	// their process has ended.
	LeftLinks() ([]LeftLink, error)
	// OpenWire opens the physical device; an alias suffix (":0") is ignored. When the
	// device changes, the host calls on: never before OpenWire has returned, and never
	// after Close. ENXIO: there is no such device.
	OpenWire(physical string, on WireEvents) (Wire, error)
	// WhenUp calls up once when a physical device is up, at once if it is up already. It
	// waits for the device of that index, even if it has been renamed. If no device has
	// that index, it waits for a device of that name. Index 0: no index is known. After
	// stop has returned, up is not called any more, but a call may still be running.
	WhenUp(name string, index int, up func(name string)) (stop func())
	// OpenReceiver starts receiving ESP and AH packets for this host.
	OpenReceiver(batch int) (Receiver, error)
	// IsLocal reports whether an address is an address of this host now. Workers call it
	// for packets, from several goroutines: it takes no lock and allocates nothing.
	IsLocal(a netip.Addr) bool
	// SendICMP sends an ICMP message, or an ICMPv6 message to an IPv6 address, with a TOS
	// or traffic class, from an address of this host. It writes the checksum into m, and
	// does not keep m. Any goroutine may call it.
	SendICMP(to netip.Addr, tos uint8, m []byte) error
	// UnprivilegedPorts returns the first port that programs without rights can bind. It
	// is 1024 unless the system was changed (net.ipv4.ip_unprivileged_port_start, which
	// is for IPv6 too).
	UnprivilegedPorts() int
}

// WireEvents are called when the physical device of an open wire changes. Any goroutine
// may call them, with locks of the host held: they must not call the host.
type WireEvents struct {
	Lost     func() // it is down or was removed
	Renamed  func() // Name returns its new name from now on
	Resized  func() // MTU returns its new MTU from now on
	Rerouted func() // RouteMTU may return others from now on
}

// A LeftLink is a virtual device that no process reads. Packets that are routed into it
// are dropped.
type LeftLink struct {
	Name     string
	Physical string // the device that it was attached to; "": none
	// ChosenMTU is the MTU that the previous engine chose for it; 0: none. If the device
	// has another MTU, another program or a person has set that.
	ChosenMTU int
	// Direct: packets were sent past the kernel's IP output ([Wire].Direct).
	Direct bool
}

// linkRoom is the room in bytes that Link.Write needs before a packet: for a virtio
// header, and rounded up.
const linkRoom = 16

// A Link is the clear side of a virtual device. Read returns the packets that were routed
// into ipsecN. Packets that are written arrive on it. One goroutine at a time reads; any may
// write.
type Link interface {
	Name() string
	// Read waits for packets and puts them into pkts, at packet.Headroom. It returns their
	// number. A GSO packet of the kernel is split into its segments. os.ErrClosed: Close
	// was called, or the device was removed from the system. Any other error is about one
	// packet only.
	Read(pkts []*packet.Buffer) (int, error)
	// Poll is Read that does not wait: 0 packets if none is there.
	Poll(pkts []*packet.Buffer) (int, error)
	// Write writes packets, each with linkRoom bytes before it, which it may overwrite, and
	// keeps their order. It may join packets of one flow. It calls fail for each packet that
	// cannot be written.
	Write(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error))
	// Quiet stops the ICMP errors that the host sends if no program receives a protocol,
	// for packets of that protocol that arrive on the device. Such an error quotes the
	// packet, and a route may lead it past the eroutes in clear. It lasts until Close.
	// TCP, UDP and ICMP are always received, and need no Quiet.
	Quiet(proto uint8, v6 bool) error
	MTU() (int, error)
	SetMTU(mtu int) error
	// ShareLinkLocal gives the device the IPv6 link-local addresses of the physical
	// device with that index, now and when they change. Index 0 ends this and removes the
	// addresses. Close ends it, too; a device that is kept keeps the addresses.
	ShareLinkLocal(index int) error
	// Keep makes the device outlive Close and this process. It records the physical
	// device that it is attached to ("": none), the MTU that the engine chose for it (0:
	// none), and whether the device sends directly.
	Keep(physical string, chosenMTU int, direct bool) error
	// Close ends Read. The device is removed unless it is kept.
	Close() error
	// Remove closes the link and removes the device, kept or not.
	Remove() error
}

// A Wire is the protected side: a physical device through which packets are sent. Any
// goroutine may call Send, which keeps the order of its packets. Close is called after all
// other methods have returned.
type Wire interface {
	Name() string // the device's name now, without an alias suffix
	Index() int
	MTU() int
	// RouteMTU returns the MTU of the host's route to an address by this device, in bytes:
	// at most that of the device, and that if there is no route. It may ask the kernel, so
	// it is not for packets.
	RouteMTU(to netip.Addr) int
	// Hops returns the TTL (IPv4) and the hop limit (IPv6) that the host gave its own
	// packets on this device when the wire was opened.
	Hops() (v4, v6 uint8)
	// Join makes the host receive packets to a multicast group on the device, until Leave
	// or Close.
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	// Direct makes Send send what an SA has made (packet.Buffer.Sealed) past the kernel's
	// IP output, where the host can. It is called once at most, before the first Send.
	// EAFNOSUPPORT: the host cannot do it at all.
	Direct() error
	// Send sends finished packets, none longer than MTU. It calls fail for each packet
	// that cannot be sent, and full, which may be nil, before it waits because the device has
	// too many packets. Packets to a multicast group are not looped back.
	Send(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error), full func())
	Close() error
}

// A Receiver returns whole packets to this host that are ESP or AH, or can contain them.
// It also returns the ICMP and ICMPv6 messages that report a packet as too long.
type Receiver interface {
	// Recv waits for packets. Each packet goes into one bufs[i], at packet.Headroom or a
	// little before. ifindex[i] is the index of the device that it arrived on.
	// os.ErrClosed after Close. Recv may exchange elements of bufs. It may return 0 packets.
	// One goroutine at a time calls it.
	Recv(bufs []*packet.Buffer, ifindex []int) (int, error)
	// Join makes Recv also wait for the packets of a link: it returns 0 packets when the link
	// may have some, and when the link was closed, and an error if it cannot wait for that
	// link; nil: it does not wait for one. A Recv in progress returns. Any goroutine may call
	// Join.
	Join(l Link)
	// SetUDPPorts sets the local UDP ports at which ESP can arrive; Recv returns their
	// packets, too. Sockets of other programs on these ports still receive their packets.
	SetUDPPorts(ports []uint16)
	Close() error
	// Release closes the sockets. It is called after the last Recv has returned.
	Release()
}

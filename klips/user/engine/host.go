package engine

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Host is the machine that an engine works on, or a double of one.
type Host interface {
	// OpenLink makes the virtual device name (ipsecN), down and without
	// addresses, or takes one up that was left. EEXIST or EBUSY: something else of
	// that name is there.
	OpenLink(name string) (Link, error)
	// LeftLinks returns the virtual devices that were left, by name: they were kept
	// and closed, or the process that had opened them is gone.
	LeftLinks() ([]LeftLink, error)
	// OpenWire opens the physical device; an alias suffix (":0") is ignored.
	// What becomes of the device is told by on, not before OpenWire has
	// returned, and not after Close. ENXIO: there is no such device.
	OpenWire(physical string, on WireEvents) (Wire, error)
	// WhenUp calls up once, when a physical device is up, at once where it is up
	// already: the device of that index, whatever its name is by then, or, where
	// there is none of that index, the one of that name. Index 0 stands for none.
	// After stop up is not called any more, unless it is being called.
	WhenUp(name string, index int, up func(name string)) (stop func())
	// OpenReceiver starts receiving ESP and AH packets for this host.
	OpenReceiver(batch int) (Receiver, error)
	// IsLocal reports whether an address is one of this host's own now. It is
	// called for packets, from several goroutines: it neither locks nor
	// allocates.
	IsLocal(a netip.Addr) bool
	// SendICMP sends an ICMP message, or an ICMPv6 one where the address is of IPv6, with
	// a TOS or traffic class, from an address of this host. It writes the checksum into m,
	// which it does not keep. It may be called from any goroutine.
	SendICMP(to netip.Addr, tos uint8, m []byte) error
	// UnprivilegedPorts returns the first port that programs without rights can
	// bind, 1024 as a rule (net.ipv4.ip_unprivileged_port_start, which is for IPv6
	// too).
	UnprivilegedPorts() int
}

// WireEvents are what becomes of the physical device of an open wire. They are called
// by any goroutine, with locks of the host held: they must not call it back.
type WireEvents struct {
	Lost    func() // it went down or away
	Renamed func() // Name returns its new name from now on
	Resized func() // MTU returns its new MTU from now on
}

// A LeftLink is a virtual device that nobody reads. It drops what is routed into it.
type LeftLink struct {
	Name     string
	Physical string // the device that it was attached to; "" for none
}

// A Link is the clear side of a virtual device: what is read was routed into
// ipsecN, what is written arrives on it. One goroutine reads; any may write.
type Link interface {
	Name() string
	// Read waits for packets and puts each into bufs[i][offset:]. A kernel's
	// GSO packet is split: one Read gives all of its segments. os.ErrClosed
	// after Close, and when the device has been removed from the system; other
	// errors concern one packet only.
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	// Write writes packets bufs[i][offset:], offset at least 10 (room for a
	// virtio header), and returns how many it has written. It may hand packets of
	// one flow over as one. It goes on after a packet that cannot be written; all
	// errors are joined.
	Write(bufs [][]byte, offset int) (int, error)
	// Quiet keeps the host from answering that nobody takes a protocol, when packets
	// of it arrive on the device: such an answer would quote them, and a route may
	// lead it past the eroutes in clear. It lasts until Close. The host's TCP, UDP and
	// ICMP take theirs anyway.
	Quiet(proto uint8, v6 bool) error
	MTU() (int, error)
	SetMTU(mtu int) error
	// ShareLinkLocal gives the device the link-local addresses of IPv6 that the physical
	// device of an index has, now and when they change. Index 0 ends that, and takes them
	// away again. Close ends it, too, and leaves them to a device that is kept.
	ShareLinkLocal(index int) error
	// Keep makes the device outlive Close and this process, and writes down what it
	// is attached to, "" for nothing.
	Keep(physical string) error
	// Close ends reading. The device goes, unless it is kept.
	Close() error
	// Remove closes the link and removes the device, kept or not.
	Remove() error
}

// A Wire is the protected side: a physical device that packets leave by. Send
// belongs to one goroutine, Close comes after the last call of another method.
type Wire interface {
	Name() string // the device's name as it is now, without an alias suffix
	Index() int
	MTU() int
	// Hops returns the TTL (IPv4) and the hop limit (IPv6) that the host gave
	// its own packets by this device when the wire was opened.
	Hops() (v4, v6 uint8)
	// Join makes the host receive packets to a multicast group by the device, until Leave
	// or Close.
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	// Send sends finished packets, none longer than MTU, and calls fail for
	// each that could not be sent. Packets to a group do not come back.
	Send(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error))
	Close() error
}

// A Receiver gets the packets that come for the host and are, or may hold, ESP
// and AH, whole, and ICMP and ICMPv6 messages that a packet was too long.
type Receiver interface {
	// Recv waits for packets; bufs[i] gets one, beginning at packet.Headroom or
	// a little before, ifindex[i] the index of the device it came in by.
	// os.ErrClosed after Close. It may exchange elements of bufs.
	Recv(bufs []*packet.Buffer, ifindex []int) (int, error)
	// SetUDPPorts asks for UDP packets to these local ports as well, besides
	// ESP and AH: ESP may be in them. Sockets that listen there get theirs too.
	SetUDPPorts(ports []uint16)
	Close() error
	// Release frees the sockets, after the last Recv.
	Release()
}

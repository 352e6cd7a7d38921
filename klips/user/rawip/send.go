package rawip

import (
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/internal/spare"
	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// sendBuffer is the socket's send buffer in bytes: two batches of 64 KiB GSO packets.
const sendBuffer = 4 << 20

// A Sender sends complete IP packets, header included, through one physical device. The
// device's routes decide the next hop (SO_BINDTODEVICE), so a packet never loops back
// into an ipsecN. Any goroutine may call the methods.
type Sender struct {
	name   string
	index  int
	mtu    atomic.Int32
	fd4    int
	fd6    int // -1 if the host has no IPv6
	ports  *Ports
	unfit  atomic.Bool // the device has refused a run
	direct *direct     // nil: packets go by raw sockets
	sends  *spare.Pool[sending]
}

// A sending is what one Send needs.
type sending struct {
	*Sender
	batch *mmsg.Batch
	run   mmsg.Run
	turn  turn
	full  func() // is called before a system call waits; may be nil
}

// NewSender opens the sockets. batch is the largest number of packets for one system call.
// UDP packets from ports are sent by the sockets of these.
// ENXIO: there is no such device. EPERM: the process lacks CAP_NET_RAW.
func NewSender(ports *Ports, physical string, batch int) (*Sender, error) {
	ifi, err := net.InterfaceByName(physical)
	if err != nil {
		return nil, unix.ENXIO
	}
	s := &Sender{name: ifi.Name, index: ifi.Index, fd4: -1, fd6: -1, ports: ports}
	s.mtu.Store(int32(ifi.MTU))
	s.sends = newSends(s, batch)
	if s.fd4, err = sendSocket(unix.AF_INET, ifi.Name); err != nil {
		return nil, err
	}
	// A path MTU that the kernel has learned must not stop a packet that fits the link:
	// KLIPS uses the device's MTU.
	if err := unix.SetsockoptInt(s.fd4, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE); err != nil {
		s.Close()
		return nil, err
	}
	s.fd6, err = sendSocket(unix.AF_INET6, ifi.Name)
	switch err {
	case nil:
		_ = unix.SetsockoptInt(s.fd6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	case unix.EAFNOSUPPORT:
		s.fd6 = -1
	default:
		s.Close()
		return nil, err
	}
	return s, nil
}

// newSends returns a pool for a sender. batch is the largest number of packets for one system
// call.
func newSends(s *Sender, batch int) *spare.Pool[sending] {
	return spare.New(func() *sending { return &sending{Sender: s, batch: mmsg.NewBatch(batch)} })
}

// sendSocket opens a raw socket on one device. The writer makes the IP header
// (IPPROTO_RAW implies IP_HDRINCL and IPV6_HDRINCL).
func sendSocket(family int, device string) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return -1, err
	}
	// The host's own packets to a group that it has joined do not come back to it.
	level, loop := unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP
	if family == unix.AF_INET6 {
		level, loop = unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP
	}
	err = unix.SetsockoptInt(fd, level, loop, 0)
	if err == nil {
		err = unix.BindToDevice(fd, device)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	return fd, nil
}

// Name returns the device's name.
func (s *Sender) Name() string { return s.name }

// Index returns the device's interface index.
func (s *Sender) Index() int { return s.index }

// MTU returns the device's current MTU.
func (s *Sender) MTU() int { return int(s.mtu.Load()) }

// SetMTU sets the device's MTU after it has changed.
func (s *Sender) SetMTU(mtu int) {
	s.mtu.Store(int32(mtu))
	s.Refit()
}

// Refit makes the sender try runs of datagrams again that the kernel has refused, after
// the device or the host's addresses have changed.
func (s *Sender) Refit() { s.unfit.Store(false) }

// Join makes the host a member of a multicast group on the device, until Leave or Close:
// otherwise the device does not accept packets to the group. Any raw socket then receives
// them. ENOBUFS: the socket has too many memberships (net.ipv4.igmp_max_memberships).
// EADDRINUSE: it is a member already.
func (s *Sender) Join(group netip.Addr) error {
	return s.member(group, unix.IP_ADD_MEMBERSHIP, unix.IPV6_JOIN_GROUP)
}

// Leave ends a membership. EADDRNOTAVAIL: there is none.
func (s *Sender) Leave(group netip.Addr) error {
	return s.member(group, unix.IP_DROP_MEMBERSHIP, unix.IPV6_LEAVE_GROUP)
}

func (s *Sender) member(group netip.Addr, option4, option6 int) error {
	if group.Is4() {
		return unix.SetsockoptIPMreqn(s.fd4, unix.IPPROTO_IP, option4, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(s.index)})
	}
	if s.fd6 < 0 {
		return unix.EAFNOSUPPORT
	}
	return unix.SetsockoptIPv6Mreq(s.fd6, unix.IPPROTO_IPV6, option6, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(s.index)})
}

// Send sends packets, none longer than the MTU, and calls fail for each that the kernel
// refused, and full, unless it is nil, before it waits because too many packets are queued.
// Their order is kept. Send or the kernel fills in the IPv4 checksum.
func (s *Sender) Send(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error), full func()) {
	one := s.sends.Get()
	defer s.sends.Put(one)
	one.turn, one.full = s.direct.begin(), full
	one.send(pkts, fail)
	one.turn, one.full = turn{}, nil
}

func (s *sending) send(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error)) {
	raw := 0 // packets at the beginning that no run can begin with
	var before []byte
	for raw < len(pkts) {
		n, k, data := s.runLen(pkts[raw:], before)
		if n == 0 {
			before = nil
			raw++
			continue
		}
		s.sendPlain(pkts[:raw], fail)
		pkts, raw = pkts[raw:], 0
		before = pkts[0].Bytes()
		if !s.sendRun(k, pkts[:n], data) {
			// A raw socket knows which packet fails, and sends from any address.
			s.sendRaw(pkts[:n], fail)
		}
		pkts = pkts[n:]
	}
	s.sendPlain(pkts, fail)
}

// sendRaw sends packets by the raw sockets.
func (s *sending) sendRaw(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error)) {
	for len(pkts) > 0 {
		// A run of packets of one family is sent in one call, so the order is kept.
		fd, v := s.fd4, pkts[0].Bytes()[0]>>4
		if v == 6 {
			fd = s.fd6
		}
		n := 0
		for n < len(pkts) && n < s.batch.Len() && pkts[n].Bytes()[0]>>4 == v {
			p := pkts[n].Bytes()
			s.batch.SetSend(n, p, packet.Dst(p), uint32(s.index))
			n++
		}
		for from := 0; from < n; {
			var done int
			var err error = unix.EAFNOSUPPORT
			if fd >= 0 {
				done, err = s.batch.Send(fd, from, n, s.full)
			}
			from += done
			if err != nil {
				fail(pkts[from], err)
				from++
			}
		}
		pkts = pkts[n:]
	}
}

// Close closes the sockets. It must not be called while a Send is in progress.
func (s *Sender) Close() error {
	for _, fd := range []*int{&s.fd4, &s.fd6} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	s.direct.close()
	return nil
}

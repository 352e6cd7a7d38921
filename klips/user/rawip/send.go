package rawip

import (
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// sendBuffer is the socket's send buffer in bytes: a batch of 64 KiB GSO
// packets, twice.
const sendBuffer = 4 << 20

// A Sender sends finished IP packets, header included, through one physical
// device: its routes decide the next hop (SO_BINDTODEVICE), so a packet never
// loops back into an ipsecN. Send belongs to one goroutine; the rest may be
// called from any.
type Sender struct {
	name  string
	index int
	mtu   atomic.Int32
	fd4   int
	fd6   int // -1 where the host has no IPv6
	batch *mmsg.Batch
}

// NewSender opens the sockets. The error is ENXIO when there is no such device
// and EPERM without CAP_NET_RAW.
func NewSender(physical string, batch int) (*Sender, error) {
	ifi, err := net.InterfaceByName(physical)
	if err != nil {
		return nil, unix.ENXIO
	}
	s := &Sender{name: ifi.Name, index: ifi.Index, fd4: -1, fd6: -1, batch: mmsg.NewBatch(batch)}
	s.mtu.Store(int32(ifi.MTU))
	if s.fd4, err = sendSocket(unix.AF_INET, ifi.Name); err != nil {
		return nil, err
	}
	// A PMTU that the kernel learned must not stop a packet that fits the
	// link: the rule of KLIPS goes by the device's MTU.
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

// sendSocket opens a raw socket whose writer makes the IP header (IPPROTO_RAW
// implies IP_HDRINCL and IPV6_HDRINCL) and which uses one device only.
func sendSocket(family int, device string) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return -1, err
	}
	if err := unix.BindToDevice(fd, device); err != nil {
		unix.Close(fd)
		return -1, err
	}
	// Best effort: SO_SNDBUFFORCE passes the sysctl limit but needs a capability.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	return fd, nil
}

// Name returns the device's name.
func (s *Sender) Name() string { return s.name }

// Index returns the device's interface index.
func (s *Sender) Index() int { return s.index }

// MTU returns the device's MTU as it is now.
func (s *Sender) MTU() int { return int(s.mtu.Load()) }

// SetMTU tells the sender that the device's MTU has changed.
func (s *Sender) SetMTU(mtu int) { s.mtu.Store(int32(mtu)) }

// Send sends packets, none longer than the MTU, and reports with fail each that
// the kernel did not take. The IPv4 checksum is filled in by the kernel.
func (s *Sender) Send(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error)) {
	for len(pkts) > 0 {
		// A run of one family goes out in one call, so order is kept.
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
				done, err = s.batch.Send(fd, from, n)
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

// Close closes the sockets. No Send may be under way.
func (s *Sender) Close() error {
	for _, fd := range []*int{&s.fd4, &s.fd6} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	return nil
}

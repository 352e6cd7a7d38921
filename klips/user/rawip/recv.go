package rawip

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/wait"
)

// recvBuffer is each socket's receive buffer in bytes.
const recvBuffer = 8 << 20

// How long Recv waits for more packets after several of one raw socket: the more there were,
// the longer, because packets that come together cost less. A single packet is not delayed.
const (
	leastNap  = 50 * time.Microsecond
	mostNap   = 400 * time.Microsecond
	packetNap = 10 * time.Microsecond // for each packet
)

// napAfter returns how long Recv waits after so many packets.
func napAfter(packets int) time.Duration {
	if packets < 2 {
		return 0
	}
	return min(max(time.Duration(packets)*packetNap, leastNap), mostNap)
}

// A Receiver receives the ESP and AH packets for this host, complete and reassembled, UDP
// packets to given ports, and ICMP messages that report a packet as too long. Its open
// sockets also stop the kernel from answering ESP and AH with "protocol unreachable".
// Only one goroutine may call Recv.
type Receiver struct {
	socks []recvSocket
	ports *Ports
	udp   []*port          // the sockets of ports when they were read last
	seen  *map[place]*port // ports.open at that time
	wait  *wait.Waiter     // for socks, udp, then what is joined; nil: they were released
	ready []int            // what may have something to read, numbered in that order
	came  int              // packets of raw sockets since the last Wait
	batch *mmsg.Batch
	split *datagrams

	join   atomic.Pointer[Source] // see Join; nil: nothing
	joined *Source                // the one that is waited for
}

// A Source has a descriptor. Use calls f with it, and keeps it open until f has returned. It
// returns the error of f, or an error without a call of f if the descriptor was closed.
type Source interface {
	Use(f func(fd int) error) error
}

// errNotJoined: Recv cannot wait for what is joined.
var errNotJoined = errors.New("rawip: no descriptor to wait for")

type recvSocket struct {
	fd    int
	proto uint8 // 0: it is a UDP socket
	v6    bool
	port  uint16 // of a UDP socket
}

// NewReceiver opens the sockets; batch is the maximum number of packets that a Recv
// returns. It opens and closes the sockets of ports. Inherited sockets, from another
// receiver's Sockets, replace those of their kind, with the packets queued in them; the
// receiver owns them. EPERM without CAP_NET_RAW.
func NewReceiver(ports *Ports, batch int, inherited ...int) (*Receiver, error) {
	r := &Receiver{ports: ports, batch: mmsg.NewBatch(batch), split: newDatagrams()}
	raw := r.inherit(inherited)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		icmp := uint8(packet.ProtoICMP)
		if family == unix.AF_INET6 {
			icmp = packet.ProtoICMPv6
		}
		for _, proto := range []uint8{packet.ProtoESP, packet.ProtoAH, packet.ProtoUDP, icmp} {
			if fd, ok := raw[rawKind{family, int(proto)}]; ok {
				if family == unix.AF_INET6 {
					askForHeaders(fd) // an older receiver may not have done so
				}
				r.socks = append(r.socks, recvSocket{fd: fd, proto: proto, v6: family == unix.AF_INET6})
				continue
			}
			fd, err := recvOpen(family, int(proto))
			if err == unix.EAFNOSUPPORT && family == unix.AF_INET6 {
				continue
			}
			switch {
			case err != nil:
			case proto == packet.ProtoUDP:
				err = setFilter(fd, portFilter(family == unix.AF_INET6, nil))
			case proto == icmp:
				err = setFilter(fd, tooBigFilter(family == unix.AF_INET6))
			}
			if err != nil {
				r.closeAll()
				return nil, os.NewSyscallError("raw socket", err)
			}
			r.socks = append(r.socks, recvSocket{fd: fd, proto: proto, v6: family == unix.AF_INET6})
		}
	}
	w, err := wait.New()
	if err != nil {
		r.closeAll()
		return nil, err
	}
	r.wait = w
	if err := r.refresh(); err != nil {
		r.closeAll()
		return nil, err
	}
	return r, nil
}

func recvOpen(family, proto int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, err
	}
	type opt struct{ level, name int }
	opts := []opt{{unix.IPPROTO_IP, unix.IP_PKTINFO}}
	if family == unix.AF_INET6 {
		opts = []opt{
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS},
		}
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.name, 1); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	if family == unix.AF_INET6 {
		askForHeaders(fd)
	}
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, recvBuffer)
	return fd, nil
}

// askForHeaders asks an IPv6 socket for the flow label, and for the extension headers
// before the protocol's: AH authenticates them (RFC 4302 section 3.3.3.1.2). If the kernel
// does not support that, packets are delivered without them.
func askForHeaders(fd int) {
	for _, name := range []int{mmsg.FlowInfo, unix.IPV6_RECVHOPOPTS, unix.IPV6_RECVDSTOPTS, unix.IPV6_RECVRTHDR} {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, name, 1)
	}
}

// Recv waits for packets and puts them into bufs, and the indexes of their interfaces
// into ifindex. It returns their number. A packet begins at packet.Headroom, or before
// that if it has IPv6 extension headers. IPv6 raw sockets do not deliver the header, and
// UDP sockets deliver none: Recv makes them from the kernel's control messages.
// It returns 0 packets if what is joined may have something to read, and after Interrupt.
// The error is os.ErrClosed after Close. Any other one means that Recv cannot wait for what is
// joined.
func (r *Receiver) Recv(bufs []*packet.Buffer, ifindex []int) (int, error) {
	for {
		// What is left of the last messages comes first, in order.
		if n := r.split.take(r.ports, bufs, ifindex); n > 0 {
			return n, nil
		}
		if r.seen != r.ports.open.Load() || r.joined != r.join.Load() {
			// Without descriptors it is tried again after the next packets.
			if r.refresh() != nil && r.join.Load() != nil {
				return 0, errNotJoined
			}
		}
		for len(r.ready) > 0 {
			i := r.ready[0]
			r.ready = append(r.ready[:0], r.ready[1:]...)
			n, full := 0, false
			switch {
			case i == len(r.socks)+len(r.udp):
				return 0, nil
			case i >= len(r.socks):
				p := r.udp[i-len(r.socks)]
				full = r.split.read(recvSocket{fd: p.fd, v6: p.family == unix.AF_INET6, port: p.port})
				n = r.split.take(r.ports, bufs, ifindex)
			case r.socks[i].proto == packet.ProtoUDP:
				full = r.split.read(r.socks[i])
				n = r.split.take(r.ports, bufs, ifindex)
			default:
				n, full = r.recvFrom(&r.socks[i], bufs, ifindex)
				r.came += n
			}
			if full {
				r.ready = append(r.ready, i) // in turn, so that each is read
			}
			if n > 0 {
				return n, nil
			}
		}
		if d := napAfter(r.came); d > 0 {
			// More packets probably follow: waiting a little for many packets costs
			// less than a wakeup for each.
			r.wait.Nap(d)
		}
		r.came = 0
		if err := r.wait.Wait(); err != nil {
			return 0, err
		}
		r.ready = append(r.ready, r.wait.Ready()...)
		if len(r.ready) == 0 {
			return 0, nil // interrupted
		}
	}
}

// Join makes Recv also wait until s has something to read; nil: not any more. A Recv in
// progress returns. Any goroutine may call it.
func (r *Receiver) Join(s Source) {
	if s == nil {
		r.join.Store(nil)
	} else {
		r.join.Store(&s)
	}
	r.Interrupt()
}

// Interrupt makes the Recv in progress, or else the next one that would wait, return 0
// packets. Any goroutine may call it.
func (r *Receiver) Interrupt() { r.wait.Interrupt() }

// refresh reads which UDP sockets there are now, and what is joined.
//
// If there is an error, the Receiver still has the ones before.
func (r *Receiver) refresh() error {
	seen := r.ports.open.Load()
	udp := r.ports.useAll()
	fds := make([]int, 0, len(r.socks)+len(udp))
	for _, s := range r.socks {
		fds = append(fds, s.fd)
	}
	for _, p := range udp {
		fds = append(fds, p.fd)
	}
	var err error
	join := r.join.Load()
	if join == nil {
		err = r.wait.Watch(fds...)
	} else {
		err = (*join).Use(func(fd int) error { return r.wait.Watch(append(fds, fd)...) })
	}
	if err == nil {
		udp, r.udp, r.seen, r.ready, r.joined = r.udp, udp, seen, r.ready[:0], join
	}
	for _, p := range udp { // those of before, or those that are not watched
		p.release()
	}
	return err
}

// recvFrom reads the packets of one raw socket, not of UDP. A raw socket reports errors of
// packets sent earlier (ICMP), which do not matter here: reading clears them. full means
// that there may be more.
func (r *Receiver) recvFrom(s *recvSocket, bufs []*packet.Buffer, ifindex []int) (kept int, full bool) {
	n := min(len(bufs), r.batch.Len())
	off := packet.Headroom
	if s.v6 {
		off += ipv6Len
	}
	for i := range n {
		b := bufs[i]
		r.batch.SetRecv(i, b.B[off:len(b.B)-packet.Tailroom])
	}
	got, err := r.batch.Recv(s.fd, n)
	if err != nil {
		return 0, false
	}
	for i := range got {
		size, src, trunc := r.batch.Received(i)
		in := r.batch.Info(i)
		if !chained(&in, s.proto) {
			in.Ext = nil
		}
		if trunc || (s.v6 && (!in.Dst.IsValid() || len(in.Ext)+size > 0xffff)) {
			continue
		}
		// The buffer of a skipped packet is used for a later one.
		bufs[kept], bufs[i] = bufs[i], bufs[kept]
		b := bufs[kept]
		b.Off, b.End = packet.Headroom-len(in.Ext), off+size
		if s.v6 {
			header6(b.B[b.Off:], s.proto, src.Addr(), &in, size)
		}
		ifindex[kept] = int(in.IfIndex)
		kept++
	}
	return kept, got == n
}

// maxExt is the largest number of bytes of extension headers: the rest of the room before
// the packet is for the headers of links.
const maxExt = packet.Headroom - 64

// chained reports whether the extension headers of a packet follow one another up to
// protocol proto: none is missing.
func chained(in *mmsg.Info, proto uint8) bool {
	next, e := in.First, in.Ext
	if len(e) > maxExt {
		return false
	}
	for len(e) > 0 {
		switch next {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDstOpts:
		default:
			return false
		}
		if len(e) < 8 || (int(e[1])+1)*8 > len(e) {
			return false
		}
		next, e = e[0], e[(int(e[1])+1)*8:]
	}
	return next == proto
}

// header6 makes the headers of a packet in p, with size bytes of protocol proto after
// them.
func header6(p []byte, proto uint8, src netip.Addr, in *mmsg.Info, size int) {
	binary.BigEndian.PutUint32(p, 6<<28|uint32(in.Class)<<20|in.Label)
	binary.BigEndian.PutUint16(p[4:], uint16(len(in.Ext)+size))
	p[6], p[7] = proto, in.HopLimit
	if len(in.Ext) > 0 {
		p[6] = in.First
	}
	s, d := src.As16(), in.Dst.As16()
	copy(p[8:], s[:])
	copy(p[24:], d[:])
	copy(p[40:], in.Ext)
}

// SetUDPPorts makes Recv also return UDP packets to these local ports. If another
// program's socket is bound to such a port, such as a key daemon's, they are copies, and
// that socket still gets its packets. Otherwise the port gets a socket, which is closed
// when the port is no longer wanted. Calls must not overlap.
func (r *Receiver) SetUDPPorts(ports []uint16) {
	r.ports.set(ports)
	for _, s := range r.socks {
		if s.proto == packet.ProtoUDP {
			family := unix.AF_INET
			if s.v6 {
				family = unix.AF_INET6
			}
			// It can fail only for lack of memory; then the old filter stays.
			_ = setFilter(s.fd, portFilter(s.v6, r.ports.others(family, ports)))
		}
	}
	r.Interrupt()
}

// Close ends Recv, also later calls. The sockets are closed when Recv has returned.
func (r *Receiver) Close() error {
	r.wait.Stop()
	return nil
}

// Release closes the sockets; it must not be called while a Recv is in progress.
func (r *Receiver) Release() { r.closeAll() }

func (r *Receiver) closeAll() {
	for _, s := range r.socks {
		unix.Close(s.fd)
	}
	r.socks = nil
	for _, p := range r.udp {
		p.release()
	}
	r.udp, r.seen = nil, nil
	r.ports.Close()
	if r.wait != nil {
		r.wait.Free()
	}
}

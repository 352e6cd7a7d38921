package rawip

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// recvBuffer is each socket's receive buffer in bytes.
const recvBuffer = 8 << 20

// coalesce is how long Recv lets packets gather after a busy batch. A packet
// that comes alone is not held up.
var coalesce = unix.NsecToTimespec(50_000)

// A Receiver receives the ESP and AH packets that are for this host, whole and
// reassembled, and UDP packets to the ports it is asked for. That its sockets are open also keeps the kernel from answering
// them with "protocol unreachable". Recv belongs to one goroutine.
type Receiver struct {
	socks []recvSocket
	poll  []unix.PollFd // one per socket, then the pipe that ends Recv
	ready []int         // sockets that have, or may have, something to read
	busy  bool          // the last batch had more than one packet
	batch *mmsg.Batch
	pipe  [2]int
	once  sync.Once

	mu    sync.Mutex
	taken map[place]int // UDP sockets that keep ports from being unreachable; guarded by mu
}

type recvSocket struct {
	fd    int
	proto uint8
	v6    bool
}

// NewReceiver opens the sockets; batch is how many packets a Recv may return. Inherited
// ones, which another receiver's Sockets has returned, take the places of their kind,
// with what is queued in them; they belong to the receiver from now on.
// EPERM without CAP_NET_RAW.
func NewReceiver(batch int, inherited ...int) (*Receiver, error) {
	r := &Receiver{batch: mmsg.NewBatch(batch), pipe: [2]int{-1, -1}, taken: map[place]int{}}
	raw := r.inherit(inherited)
	if err := unix.Pipe2(r.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		for _, fd := range raw {
			unix.Close(fd)
		}
		r.closeAll()
		return nil, os.NewSyscallError("pipe2", err)
	}
	for _, proto := range []uint8{packet.ProtoESP, packet.ProtoAH, packet.ProtoUDP} {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			if fd, ok := raw[rawKind{family, int(proto)}]; ok {
				r.socks = append(r.socks, recvSocket{fd, proto, family == unix.AF_INET6})
				continue
			}
			fd, err := recvOpen(family, int(proto))
			if err == unix.EAFNOSUPPORT && family == unix.AF_INET6 {
				continue
			}
			if err == nil && proto == packet.ProtoUDP {
				err = setFilter(fd, family == unix.AF_INET6, nil)
			}
			if err != nil {
				r.closeAll()
				return nil, os.NewSyscallError("raw socket", err)
			}
			r.socks = append(r.socks, recvSocket{fd, proto, family == unix.AF_INET6})
		}
	}
	for _, s := range r.socks {
		r.poll = append(r.poll, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	r.poll = append(r.poll, unix.PollFd{Fd: int32(r.pipe[0]), Events: unix.POLLIN})
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
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, recvBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, recvBuffer)
	}
	return fd, nil
}

// Recv waits for packets and puts them into bufs, each at packet.Headroom, and
// the index of the interface each came in by into ifindex; it returns how many
// there are. IPv6 raw sockets do not deliver the header: Recv makes one from
// what the kernel tells, with a zero flow label and without extension headers.
// The error is os.ErrClosed after Close.
func (r *Receiver) Recv(bufs []*packet.Buffer, ifindex []int) (int, error) {
	for {
		for len(r.ready) > 0 {
			i := r.ready[0]
			r.ready = append(r.ready[:0], r.ready[1:]...)
			n, full := r.recvFrom(&r.socks[i], bufs, ifindex)
			if full {
				r.ready = append(r.ready, i) // in turn: none starves another
			}
			if n > 0 {
				r.busy = n > 1
				return n, nil
			}
		}
		if r.busy {
			// More is on its way, most likely: to wait a little and take many
			// packets costs less than to be woken for each.
			r.busy = false
			_ = unix.Nanosleep(&coalesce, nil)
		}
		for {
			_, err := unix.Poll(r.poll, -1)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return 0, os.NewSyscallError("poll", err)
			}
			break
		}
		if r.poll[len(r.poll)-1].Revents != 0 {
			return 0, os.ErrClosed
		}
		for i := range r.socks {
			if r.poll[i].Revents != 0 {
				r.ready = append(r.ready, i)
			}
		}
	}
}

// recvFrom reads what one socket has. Errors that a raw socket reports for
// packets sent earlier (ICMP) are of no use here: reading clears them. full says
// that there may be more.
func (r *Receiver) recvFrom(s *recvSocket, bufs []*packet.Buffer, ifindex []int) (kept int, full bool) {
	n := min(len(bufs), r.batch.Len())
	off := packet.Headroom
	if s.v6 {
		off += 40
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
		if trunc || (s.v6 && (!in.Dst.IsValid() || size > 0xffff)) {
			continue
		}
		// A packet that is left out leaves its buffer to a later one.
		bufs[kept], bufs[i] = bufs[i], bufs[kept]
		b := bufs[kept]
		b.Off, b.End = packet.Headroom, off+size
		if s.v6 {
			header6(b.B[b.Off:], s.proto, src, in, size)
		}
		ifindex[kept] = int(in.IfIndex)
		kept++
	}
	return kept, got == n
}

func header6(p []byte, proto uint8, src netip.Addr, in mmsg.Info, size int) {
	p[0], p[1], p[2], p[3] = 0x60|in.Class>>4, in.Class<<4, 0, 0
	binary.BigEndian.PutUint16(p[4:], uint16(size))
	p[6], p[7] = proto, in.HopLimit
	s, d := src.As16(), in.Dst.As16()
	copy(p[8:], s[:])
	copy(p[24:], d[:])
}

// Close ends Recv, now and for ever; the sockets close when it has returned.
func (r *Receiver) Close() error {
	r.once.Do(func() { _, _ = unix.Write(r.pipe[1], []byte{0}) })
	return nil
}

// Release closes the sockets; call it when no Recv is under way any more.
func (r *Receiver) Release() { r.closeAll() }

func (r *Receiver) closeAll() {
	for _, s := range r.socks {
		unix.Close(s.fd)
	}
	r.socks = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, fd := range r.taken {
		unix.Close(fd)
		delete(r.taken, k)
	}
	for _, fd := range r.pipe {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	r.pipe = [2]int{-1, -1}
}

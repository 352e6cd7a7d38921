// Package afpacket receives copies of the packets that devices send and receive, from a
// packet socket (packet(7)). It changes nothing: devices do not become promiscuous.
package afpacket

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/sockfilter"
)

// A Packet is a copy of a packet.
type Packet struct {
	Device int  // the index of the device
	Out    bool // the device has sent it, not received
	Time   time.Time
	Data   []byte // from its IP header on; a part of the buffer of Receive
	Length int    // in bytes; more than Data has if the buffer was too short
}

// buffer is how many bytes of packets wait in the kernel, at most.
const buffer = 16 << 20

// A Socket receives packets of the network namespace that it was opened in. One goroutine
// may use it at a time.
type Socket struct {
	file *os.File
	conn syscall.RawConn
	oob  []byte
	now  func() time.Time // the time of a packet for which the kernel has noted none

	received, lost uint64
}

// Open opens a socket. It receives nothing before [Socket.SetFilter]. EPERM: the process
// does not have CAP_NET_RAW. EAFNOSUPPORT: the kernel has no packet sockets.
func Open() (*Socket, error) {
	// Protocol 0: nothing is received before there is a filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "packet socket"), oob: make([]byte, unix.CmsgSpace(16)), now: time.Now}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) // without the right, the limit of the system applies
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := attach(fd, []bpf.Instruction{bpf.RetConstant{Val: none}}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	every := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close closes the socket.
func (s *Socket) Close() error { return s.file.Close() }

// SetFilter sets which packets are received from now on.
func (s *Socket) SetFilter(f Filter) (err error) {
	if cerr := s.conn.Control(func(fd uintptr) { err = attach(int(fd), f.program()) }); cerr != nil {
		return cerr
	}
	return err
}

func attach(fd int, filter []bpf.Instruction) error {
	p, err := sockfilter.Program(filter)
	if err != nil {
		return err
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, p)
}

// Receive waits for a packet. It is cut if buf is too short for it. The error is
// [os.ErrDeadlineExceeded] if none comes until a time, and that of the context if this ends.
// A packet that waits already is returned in both cases.
func (s *Socket) Receive(ctx context.Context, buf []byte, until time.Time) (p Packet, err error) {
	if p, err = s.take(buf); !errors.Is(err, unix.EAGAIN) {
		return p, err
	}
	if err := s.file.SetReadDeadline(until); err != nil {
		return p, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(0, 1)) })
	defer stop()
	rerr := s.conn.Read(func(fd uintptr) bool {
		p, err = s.receive(int(fd), buf)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case rerr == nil:
		return p, err
	case ctx.Err() != nil:
		return Packet{}, ctx.Err()
	}
	return Packet{}, rerr
}

// take returns a packet that waits. EAGAIN: none does.
func (s *Socket) take(buf []byte) (p Packet, err error) {
	if cerr := s.conn.Control(func(fd uintptr) { p, err = s.receive(int(fd), buf) }); cerr != nil {
		return p, cerr
	}
	return p, err
}

func (s *Socket) receive(fd int, buf []byte) (p Packet, err error) {
	for {
		n, oobn, _, from, err := unix.Recvmsg(fd, buf, s.oob, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // a device went down; others go on
			continue
		case err != nil:
			return Packet{}, err
		}
		p := Packet{Data: buf[:min(n, len(buf))], Length: n}
		var ok bool
		if p.Time, ok = stamp(s.oob[:oobn]); !ok {
			p.Time = s.now()
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			p.Device, p.Out = ll.Ifindex, ll.Pkttype == unix.PACKET_OUTGOING
		}
		return p, nil
	}
}

// stamp returns the time that the kernel has noted for a packet; ok is false if it has noted
// none.
func stamp(oob []byte) (at time.Time, ok bool) {
	messages, _ := unix.ParseSocketControlMessage(oob) // of a message that was cut, none
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		switch b := m.Data; len(b) { // struct timespec, of 64 or 32 bits
		case 16:
			return time.Unix(int64(binary.NativeEndian.Uint64(b)), int64(binary.NativeEndian.Uint64(b[8:]))), true
		case 8:
			return time.Unix(int64(int32(binary.NativeEndian.Uint32(b))), int64(binary.NativeEndian.Uint32(b[4:]))), true
		}
	}
	return time.Time{}, false
}

// Counts returns the numbers of packets that the filter has let through since Open, and of
// those of them that are lost, because they came faster than they were received.
func (s *Socket) Counts() (received, lost uint64, err error) {
	cerr := s.conn.Control(func(fd uintptr) {
		var t *unix.TpacketStats
		if t, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			s.received += uint64(t.Packets) // the kernel counts from 0 again after each reading
			s.lost += uint64(t.Drops)
		}
	})
	return s.received, s.lost, errors.Join(cerr, err)
}

// MaxLength is more bytes than any packet has.
const MaxLength = math.MaxUint16 + 40 // the payload of IPv6, with its header

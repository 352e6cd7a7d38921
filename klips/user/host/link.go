package host

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/internal/spare"
	"github.com/klips-go/ipsec/klips/user/offload"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/rawip"
	"github.com/klips-go/ipsec/klips/user/wait"
)

// link is a TUN device with virtio headers, so that one read or write can carry up to
// 64 KiB of packets of one flow (GSO, GRO).
//
// Its descriptor does not block. Reads and writes are raw system calls: they never wait,
// and so the goroutine keeps its processor (package wait).
type link struct {
	name string
	fd   int   // -1: closed; guarded by each of reading, writing (shared, too) and mu
	host *Host // nil: no host
	wait *wait.Waiter

	reading sync.Mutex // guards the fields below
	split   *offload.Splitter

	writing sync.RWMutex // shared by those that write
	writers *spare.Pool[writer]

	joined atomic.Pointer[rawip.Receiver] // it waits for the link's packets, or has; nil: none

	mu    sync.Mutex
	quiet []int // sockets of Quiet; guarded by mu

	shared shared // guarded by host.mu
}

// A writer is what one Write needs.
type writer struct {
	*link
	merger  *offload.Merger
	vectors []unix.Iovec
	fail    func(*packet.Buffer, error)
	put     func(parts [][]byte, pkts []*packet.Buffer) // putBundle
}

// tunFlags are the flags of all devices; a left one has the same.
const tunFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

func openLink(name string) (*link, error) {
	fd, err := openTUN(TUNPath)
	if err != nil {
		return nil, err
	}
	if err := makeTUN(fd, name); err != nil {
		unix.Close(fd)
		return nil, err
	}
	l, err := newLink(fd)
	if err != nil {
		return nil, err
	}
	// A link-local address from the kernel (fe80::…) would send router solicitations
	// into the tunnel. A sysctl is no alternative: in a container it cannot be written.
	// Devices that need such an address get it from ShareLinkLocal.
	// If this fails, the kernel has no IPv6.
	_ = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		made, err := c.Link(ctx, l.name)
		if err != nil {
			return err
		}
		return c.NoLinkLocal(ctx, made.Index)
	})
	return l, nil
}

// newLink makes a link from the descriptor of a TUN device, and owns it.
func newLink(fd int) (l *link, err error) {
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	name, ok := tunName(fd)
	if !ok {
		return nil, os.NewSyscallError("TUNGETIFF", unix.EBADFD)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	// The kernel takes bundles of UDP datagrams since Linux 6.2.
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	datagrams := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil
	if !datagrams {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp); err != nil {
			return nil, os.NewSyscallError("TUNSETOFFLOAD", err)
		}
	}
	w, err := wait.New(fd)
	if err != nil {
		return nil, err
	}
	l = &link{name: name, fd: fd, wait: w, split: offload.NewSplitter()}
	l.writers = spare.New(func() *writer {
		w := &writer{link: l, merger: offload.New(datagrams)}
		w.put = w.putBundle
		return w
	})
	return l, nil
}

// Read reads the packets that are there, and waits for the first. os.ErrClosed also means
// that the device was removed from the system.
func (l *link) Read(pkts []*packet.Buffer) (n int, err error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	for {
		if n, err = l.take(pkts); n > 0 || err != nil {
			return n, err
		}
		if err = l.wait.Wait(); err != nil {
			return 0, err
		}
	}
}

// Poll reads the packets that are there.
func (l *link) Poll(pkts []*packet.Buffer) (int, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	return l.take(pkts)
}

// Use calls f with the descriptor. os.ErrClosed: Close was called.
func (l *link) Use(f func(fd int) error) error {
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.fd < 0 {
		return os.ErrClosed
	}
	return f(l.fd)
}

// take reads the packets that are there, until all buffers are full. The error is that of
// the first packet that could not be read.
func (l *link) take(pkts []*packet.Buffer) (n int, err error) {
	for n < len(pkts) {
		if l.split.Left() == 0 {
			frame := l.split.Buffer()
			size, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(l.fd), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)))
			switch errno {
			case 0:
				err = l.split.Begin(int(size))
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return n, nil
			case unix.EBADFD, unix.EBADF: // the device was removed, or this was closed
				err = os.ErrClosed
			default:
				err = errno
			}
			if err != nil && n > 0 && errno != 0 {
				return n, nil // the next call gets it again
			}
			if err != nil {
				return n, err
			}
		}
		b := pkts[n]
		size, err := l.split.Next(b.B[packet.Headroom : len(b.B)-packet.Tailroom])
		if err != nil {
			return n, err
		}
		b.Off, b.End = packet.Headroom, packet.Headroom+size
		n++
	}
	return n, nil
}

// Write writes packets. It merges packets if that changes none of them.
func (l *link) Write(pkts []*packet.Buffer, fail func(*packet.Buffer, error)) {
	l.writing.RLock()
	defer l.writing.RUnlock()
	w := l.writers.Get()
	defer l.writers.Put(w)
	w.fail = fail
	w.merger.Each(pkts, w.put)
	w.fail = nil
}

// putBundle writes the parts of a bundle of packets.
func (w *writer) putBundle(parts [][]byte, pkts []*packet.Buffer) {
	w.vectors = w.vectors[:0]
	for _, p := range parts {
		v := unix.Iovec{Base: &p[0]}
		v.SetLen(len(p))
		w.vectors = append(w.vectors, v)
	}
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, uintptr(w.link.fd), uintptr(unsafe.Pointer(&w.vectors[0])), uintptr(len(w.vectors)))
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		default:
			for _, b := range pkts {
				w.fail(b, errno)
			}
		}
		return
	}
}

// makeTUN makes a TUN device, or opens a left one. It never opens another program's
// device.
func makeTUN(fd int, name string) error {
	err := setIff(fd, name, tunFlags|unix.IFF_TUN_EXCL)
	if errors.Is(err, unix.EBUSY) && isLeft(name) {
		err = setIff(fd, name, tunFlags)
	}
	if err != nil {
		return createError(TUNPath, name, err)
	}
	return nil
}

func setIff(fd int, name string, flags uint16) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

func (l *link) Name() string         { return l.name }
func (l *link) MTU() (int, error)    { return mtu(l.name) }
func (l *link) SetMTU(mtu int) error { return setMTU(l.name, mtu) }

// Quiet opens a socket for the protocol, which Close closes. Without IPv6 on the host
// no IPv6 packet is answered anyway.
func (l *link) Quiet(proto uint8, v6 bool) error {
	fd, err := rawip.Quiet(l.name, proto, v6)
	switch {
	case v6 && errors.Is(err, unix.EAFNOSUPPORT):
		return nil
	case err != nil:
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = append(l.quiet, fd)
	return nil
}

// Keep marks the device as left before it outlives its file, so that at no time there
// is a device without a mark.
func (l *link) Keep(physical string, chosenMTU int, direct bool) error {
	if err := mark(l.name, physical, chosenMTU, direct); err != nil {
		return err
	}
	return l.persist(1)
}

// Close ends reading. Packets queued in the device stay for holders of copies of its
// descriptor; without one they are lost.
func (l *link) Close() error {
	if l.host != nil {
		l.host.mu.Lock()
		delete(l.host.links, l)
		l.host.mu.Unlock()
	}
	l.wait.Stop()
	l.reading.Lock()
	defer l.reading.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range l.quiet {
		unix.Close(fd)
	}
	l.quiet = nil
	if l.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(l.fd)
	l.fd = -1
	l.wait.Free()
	if r := l.joined.Load(); r != nil {
		r.Interrupt()
	}
	return os.NewSyscallError("close", err)
}

// Remove removes the device together with its file.
func (l *link) Remove() error {
	return errors.Join(l.persist(0), l.Close())
}

func (l *link) persist(on int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return os.NewSyscallError("TUNSETPERSIST", unix.IoctlSetInt(l.fd, unix.TUNSETPERSIST, on))
}

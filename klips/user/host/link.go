package host

import (
	"context"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/gro"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// link is a TUN device with virtio headers, so that one read or write can carry up to
// 64 KiB of packets of one flow (GSO, GRO).
type link struct {
	tun.Device
	name string
	host *Host // nil: no host

	writing sync.Mutex // guards the fields below
	merger  *gro.Merger
	put     func(p []byte, n int) // writes a bundle of n packets
	written int                   // packets that put has written
	failed  []error

	mu    sync.Mutex
	quiet []int // sockets of Quiet; guarded by mu

	shared shared // guarded by host.mu
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
func newLink(fd int) (*link, error) {
	dev, name, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	l := &link{Device: dev, name: name, merger: gro.New(takesDatagrams(fd))}
	l.put = l.putBundle
	return l, nil
}

// takesDatagrams reports whether the kernel accepts bundles of UDP datagrams, as it does
// since Linux 6.2. It asks for the same that package tun has asked for.
func takesDatagrams(fd int) bool {
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil
}

// Write writes packets. It merges packets if that changes none of them.
func (l *link) Write(bufs [][]byte, offset int) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.written, l.failed = 0, l.failed[:0]
	l.merger.Each(bufs, offset, l.put)
	return l.written, errors.Join(l.failed...)
}

func (l *link) putBundle(p []byte, n int) {
	if _, err := l.File().Write(p); err != nil {
		l.failed = append(l.failed, err)
		return
	}
	l.written += n
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

// Read reads packets. os.ErrClosed also means that the device was removed from the
// system. How a read fails then depends on whether it had already begun: the runtime
// may find that it cannot wait for the file any more, and return its own error.
func (l *link) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := l.Device.Read(bufs, sizes, offset)
	if err != nil && !errors.Is(err, os.ErrClosed) && l.gone() {
		err = os.ErrClosed
	}
	return n, err
}

// gone reports whether the file's device was removed.
func (l *link) gone() (gone bool) {
	c, err := l.File().SyscallConn()
	if err != nil {
		return true
	}
	err = c.Control(func(fd uintptr) {
		ifr := new(unix.Ifreq)
		gone = errors.Is(unix.IoctlIfreq(int(fd), unix.TUNGETIFF, ifr), unix.EBADFD)
	})
	return gone || err != nil
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
func (l *link) Keep(physical string, chosenMTU int) error {
	if err := mark(l.name, physical, chosenMTU); err != nil {
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
	l.mu.Lock()
	for _, fd := range l.quiet {
		unix.Close(fd)
	}
	l.quiet = nil
	l.mu.Unlock()
	return l.Device.Close()
}

// Remove removes the device together with its file.
func (l *link) Remove() error {
	return errors.Join(l.persist(0), l.Close())
}

func (l *link) persist(on int) error {
	c, err := l.File().SyscallConn()
	if err != nil {
		return err
	}
	cerr := c.Control(func(fd uintptr) { err = unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, on) })
	if cerr != nil {
		return cerr
	}
	if err != nil {
		return os.NewSyscallError("TUNSETPERSIST", err)
	}
	return nil
}

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

// link is a TUN device with virtio headers, so that the kernel hands over and
// takes packets of one flow by the 64 KiB (GSO, GRO).
type link struct {
	tun.Device
	name string
	host *Host // nil: it belongs to none

	writing sync.Mutex // guards what follows
	merger  *gro.Merger
	put     func(p []byte, n int) // writes a bundle of n packets
	written int                   // packets that put has written
	failed  []error

	mu    sync.Mutex
	quiet []int // sockets of Quiet; guarded by mu
}

// tunFlags are those of all devices: one that was left has the same.
const tunFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

func openLink(name string) (*link, error) {
	fd, err := openTUN(tunPath)
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
	// An address that the kernel makes up (fe80::…) would send router solicitations
	// into the tunnel. Not by a sysctl: in a container these cannot be written. Where
	// it fails the kernel has no IPv6.
	_ = withLinks(func(ctx context.Context, c *rtnl.Conn) error {
		made, err := c.Link(ctx, l.name)
		if err != nil {
			return err
		}
		return c.NoLinkLocal(ctx, made.Index)
	})
	return l, nil
}

// newLink makes a link of the descriptor of a TUN device, which belongs to it from
// now on.
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

// takesDatagrams reports whether the kernel takes bundles of UDP datagrams, as it does
// since Linux 6.2. It asks for the same that package tun has asked for.
func takesDatagrams(fd int) bool {
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil
}

// Write writes packets, merged where that changes none.
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

// makeTUN makes a TUN device, or takes up one that was left. A device that somebody
// else has left there is never taken over.
func makeTUN(fd int, name string) error {
	err := setIff(fd, name, tunFlags|unix.IFF_TUN_EXCL)
	if errors.Is(err, unix.EBUSY) && isLeft(name) {
		err = setIff(fd, name, tunFlags)
	}
	if err != nil {
		return createError(tunPath, name, err)
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

// Read reads packets. os.ErrClosed: the device has been removed from the system, too.
// How a read fails then depends on whether it had begun before: the runtime finds out
// that the file cannot be waited for any more, and returns an error of its own.
func (l *link) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := l.Device.Read(bufs, sizes, offset)
	if err != nil && !errors.Is(err, os.ErrClosed) && l.gone() {
		err = os.ErrClosed
	}
	return n, err
}

// gone reports whether the file has lost its device.
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

// Quiet opens a socket for it, which Close closes. Where there is no IPv6 no packet of it
// is answered.
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

// Keep marks the device as left, before it outlives its file: whatever happens in
// between, there is no device that nobody knows.
func (l *link) Keep(physical string) error {
	if err := mark(l.name, physical); err != nil {
		return err
	}
	return l.persist(1)
}

// Close ends reading. What is queued in the device stays there for whoever has a copy
// of its descriptor, else it is lost.
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

// Remove removes the device: it goes with its file.
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

package rawip

import (
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Ports are the local UDP ports at which ESP can arrive. Each has a socket, from which
// the [Receiver] reads and by which every [Sender] sends: only a UDP socket takes and
// gives many datagrams at once (UDP_SEGMENT, UDP_GRO). Without one the kernel would also
// answer "port unreachable" to the peer. Where another program, such as a key daemon, has
// bound a port, the raw sockets do both.
//
// Any goroutine may call the methods.
type Ports struct {
	local func(netip.Addr) bool

	mu      sync.Mutex
	offered map[place]int // sockets of Offer that are not used yet; guarded by mu

	// open is replaced and never changed, so that senders need no lock.
	open atomic.Pointer[map[place]*port]
}

// A place is a UDP port of one address family.
type place struct {
	family int
	port   uint16
}

// A port is an open socket. Its descriptor is closed when its Ports and all that use it
// have released it, so that no one uses the number of another descriptor.
type port struct {
	place
	fd   int
	uses atomic.Int32
}

// NewPorts returns Ports without a port. local reports whether an address is one of this
// host; senders call it, from any goroutine.
func NewPorts(local func(netip.Addr) bool) *Ports {
	ps := &Ports{local: local, offered: map[place]int{}}
	ps.open.Store(&map[place]*port{})
	return ps
}

// use returns the socket at a place, which the caller must release; nil: there is none.
func (ps *Ports) use(k place) *port {
	p := (*ps.open.Load())[k]
	for p != nil {
		n := p.uses.Load()
		if n == 0 {
			return nil // it was closed in between
		}
		if p.uses.CompareAndSwap(n, n+1) {
			return p
		}
	}
	return nil
}

// useAll returns all sockets, in no order. The caller must release each.
func (ps *Ports) useAll() (all []*port) {
	for k := range *ps.open.Load() {
		if p := ps.use(k); p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (p *port) release() {
	if p.uses.Add(-1) == 0 {
		unix.Close(p.fd)
	}
}

// shut closes the socket at once, so that others can bind its port, and releases it. Its
// descriptor then is no socket, until the last user releases it.
func (p *port) shut() {
	if fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
		_ = unix.Dup3(fd, p.fd, unix.O_CLOEXEC)
		unix.Close(fd)
	}
	p.release()
}

// has reports whether there is a socket at a place.
func (ps *Ports) has(k place) bool { return (*ps.open.Load())[k] != nil }

// set opens the sockets of these ports as far as they can be opened, and closes the
// others.
func (ps *Ports) set(ports []uint16) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	old := *ps.open.Load()
	open := make(map[place]*port, len(old))
	for _, n := range ports {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			k := place{family, n}
			if p := old[k]; p != nil {
				open[k] = p
			} else if fd, ok := ps.offered[k]; ok {
				delete(ps.offered, k)
				open[k] = newPort(k, fd)
			} else if fd, err := TakePort(family, n); err == nil {
				open[k] = newPort(k, fd)
			}
		}
	}
	ps.open.Store(&open)
	for k, p := range old {
		if open[k] == nil {
			p.shut()
		}
	}
}

// adopt adds a socket that another process has used in the same way, and owns it.
func (ps *Ports) adopt(k place, fd int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	old := *ps.open.Load()
	if old[k] != nil {
		unix.Close(fd)
		return
	}
	open := map[place]*port{k: newPort(k, fd)}
	for k, p := range old {
		open[k] = p
	}
	ps.open.Store(&open)
}

// newPort prepares the socket fd at a place, and owns it.
func newPort(k place, fd int) *port {
	p := &port{place: k, fd: fd}
	p.uses.Store(1)
	type opt struct{ level, name, value int }
	opts := []opt{
		// What arrives, as a raw socket reports it.
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}, {unix.IPPROTO_IP, unix.IP_RECVTOS, 1}, {unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
		// A packet that fits the device is sent in one piece, and without DF.
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE},
	}
	if k.family == unix.AF_INET6 {
		opts = []opt{
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_INTERFACE},
			{unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL, 0}, // the engine's packets have none
		}
	}
	opts = append(opts, opt{unix.IPPROTO_UDP, unix.UDP_GRO, 1})
	for _, o := range opts {
		// Without one of them it still receives; an old kernel has no UDP_GRO.
		_ = unix.SetsockoptInt(fd, o.level, o.name, o.value)
	}
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, recvBuffer)
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	// Until now it has received nothing (TakePort).
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	return p
}

// Offer gives UDP sockets that another process has bound, to ports that this process may
// not bind. [Receiver.SetUDPPorts] uses them; the next Offer closes those that were not
// used. The Ports own all descriptors, also of sockets that they cannot use.
func (ps *Ports) Offer(fds []int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.refuse()
	for _, fd := range fds {
		k := place{family: option(fd, unix.SO_DOMAIN)}
		n, ok := boundPort(fd)
		k.port = n
		_, twice := ps.offered[k]
		if !ok || twice || n == 0 || option(fd, unix.SO_TYPE) != unix.SOCK_DGRAM || option(fd, unix.SO_PROTOCOL) != unix.IPPROTO_UDP {
			unix.Close(fd)
			continue
		}
		ps.offered[k] = fd
	}
}

// refuse closes the offered sockets that were not used. The caller holds ps.mu.
func (ps *Ports) refuse() {
	for k, fd := range ps.offered {
		unix.Close(fd)
		delete(ps.offered, k)
	}
}

// Close closes all sockets.
func (ps *Ports) Close() {
	ps.set(nil)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.refuse()
}

// TakePort binds a UDP socket that receives nothing yet to a port; family is AF_INET or
// AF_INET6. The caller closes it. EACCES: the port is below those for programs without
// rights; EADDRINUSE: another socket is bound to it.
func TakePort(family int, port uint16) (int, error) {
	fd, err := openUnread(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return -1, err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		sa = &unix.SockaddrInet6{Port: int(port)}
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// setBuffer sets the length of a socket's buffer. The first option can exceed the limit
// of the system, but needs a capability.
func setBuffer(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

// others returns those of the ports at which there is no socket of a family.
func (ps *Ports) others(family int, ports []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(ports), func(n uint16) bool { return ps.has(place{family, n}) })
}

// copies returns copies of the descriptors.
func (ps *Ports) copies() (fds []int, err error) {
	for _, p := range ps.useAll() {
		if err == nil {
			var fd int
			if fd, err = unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
				fds = append(fds, fd)
			}
		}
		p.release()
	}
	if err != nil {
		closeAll(fds)
		return nil, os.NewSyscallError("dup", err)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

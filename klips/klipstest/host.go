package klipstest

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Network carries packets between the physical devices of Hosts: what one
// sends arrives at the host that has the destination address, if it is ESP or
// AH. Every packet is recorded.
type Network struct {
	mu    sync.Mutex
	hosts []*Host
	sent  [][]byte
}

// Sent returns all packets sent so far, in order.
func (n *Network) Sent() [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([][]byte(nil), n.sent...)
}

func (n *Network) send(p []byte) {
	p = append([]byte(nil), p...)
	packet.FixChecksum(p)
	h, ok := packet.ParseIP(p)
	n.mu.Lock()
	n.sent = append(n.sent, p)
	hosts := n.hosts
	n.mu.Unlock()
	if !ok {
		return
	}
	for _, to := range hosts {
		if to.IsLocal(h.Dst) {
			to.Arrive(p)
		}
	}
}

// A Host is a machine made of memory, for engine.New. Its physical devices are
// those named to NewHost, numbered from 1.
type Host struct {
	net     *Network
	addrs   map[netip.Addr]struct{}
	devices []string
	mtu     int

	mu    sync.Mutex
	links map[string]*Link
	in    chan []byte
	gone  chan struct{}
	once  sync.Once
}

var _ engine.Host = (*Host)(nil)

// NewHost makes a host with addresses and physical devices (MTU 1500) on a
// network.
func NewHost(n *Network, addrs []netip.Addr, devices ...string) *Host {
	h := &Host{
		net: n, addrs: map[netip.Addr]struct{}{}, devices: devices, mtu: 1500,
		links: map[string]*Link{}, in: make(chan []byte, 4096), gone: make(chan struct{}),
	}
	for _, a := range addrs {
		h.addrs[a] = struct{}{}
	}
	n.mu.Lock()
	n.hosts = append(n.hosts, h)
	n.mu.Unlock()
	return h
}

// IsLocal reports whether a is one of the host's addresses or 127/8.
func (h *Host) IsLocal(a netip.Addr) bool {
	_, ok := h.addrs[a]
	return ok || a.Is4() && a.IsLoopback()
}

// Arrive lets a packet come in by the first physical device.
func (h *Host) Arrive(p []byte) { h.in <- append([]byte(nil), p...) }

// Link returns the virtual device of that name, nil if there is none.
func (h *Host) Link(name string) *Link {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links[name]
}

// OpenLink makes a virtual device.
func (h *Host) OpenLink(name string) (engine.Link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links[name] != nil {
		return nil, syscall.EEXIST
	}
	l := &Link{name: name, host: h, mtu: 1500, out: make(chan []byte, 4096), in: make(chan []byte, 4096), gone: make(chan struct{})}
	h.links[name] = l
	return l, nil
}

// OpenWire opens a physical device.
func (h *Host) OpenWire(physical string, lost func()) (engine.Wire, error) {
	name, _, _ := strings.Cut(physical, ":")
	for i, d := range h.devices {
		if d == name {
			return &wire{h, name, i + 1}, nil
		}
	}
	return nil, syscall.ENXIO
}

// OpenReceiver starts receiving.
func (h *Host) OpenReceiver(int) (engine.Receiver, error) { return (*receiver)(h), nil }

type receiver Host

func (r *receiver) Recv(bufs []*packet.Buffer, ifindex []int) (int, error) {
	select {
	case <-r.gone:
		return 0, os.ErrClosed
	case p := <-r.in:
		b := bufs[0]
		b.Off = packet.Headroom
		b.End = b.Off + copy(b.B[b.Off:], p)
		ifindex[0] = 1
		return 1, nil
	}
}

func (r *receiver) Close() error {
	r.once.Do(func() { close(r.gone) })
	return nil
}

func (r *receiver) SetUDPPorts([]uint16) {}

func (r *receiver) Release() {}

type wire struct {
	host  *Host
	name  string
	index int
}

func (w *wire) Name() string { return w.name }
func (w *wire) Index() int   { return w.index }
func (w *wire) MTU() int     { return w.host.mtu }
func (w *wire) Close() error { return nil }

func (w *wire) Send(pkts []*packet.Buffer, _ func(*packet.Buffer, error)) {
	for _, b := range pkts {
		w.host.net.send(b.Bytes())
	}
}

// A Link is a virtual device made of channels.
type Link struct {
	name string
	host *Host
	out  chan []byte // routed into the device
	in   chan []byte // arrived on it
	gone chan struct{}
	once sync.Once

	mu  sync.Mutex
	mtu int
}

// Send routes a packet into the device.
func (l *Link) Send(p []byte) { l.out <- append([]byte(nil), p...) }

// Arrived is what comes out of the device.
func (l *Link) Arrived() <-chan []byte { return l.in }

// Name returns the device's name.
func (l *Link) Name() string { return l.name }

func (l *Link) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case <-l.gone:
		return 0, os.ErrClosed
	case p := <-l.out:
		sizes[0] = copy(bufs[0][offset:], p)
		return 1, nil
	}
}

func (l *Link) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		l.in <- append([]byte(nil), b[offset:]...)
	}
	return len(bufs), nil
}

// MTU returns the device's MTU.
func (l *Link) MTU() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mtu, nil
}

// SetMTU sets the device's MTU.
func (l *Link) SetMTU(mtu int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mtu = mtu
	return nil
}

// Close removes the device.
func (l *Link) Close() error {
	l.once.Do(func() { close(l.gone) })
	l.host.mu.Lock()
	defer l.host.mu.Unlock()
	delete(l.host.links, l.name)
	return nil
}

package klipstest

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Network carries packets between the physical devices of Hosts. A packet arrives at
// the host that has its destination address. A packet to a multicast group arrives at all
// members of the group except its sender. Every packet is recorded.
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

// Forget drops the record of the packets sent so far.
func (n *Network) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent = nil
}

func (n *Network) send(from *Host, p []byte) {
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
		switch {
		case to.IsLocal(h.Dst):
			to.Arrive(p)
		case h.Dst.IsMulticast() && to != from:
			for _, index := range to.Members(h.Dst) {
				to.ArriveBy(index, p)
			}
		}
	}
}

// A Host is a machine in memory, for engine.New.
type Host struct {
	net   *Network
	addrs atomic.Pointer[map[netip.Addr]struct{}]
	first [2]netip.Addr // the first IPv4 and IPv6 addresses that it had
	in    *queue
	icmp  chan []byte // ICMP errors that the stack has sent
	ports atomic.Int32

	mu      sync.Mutex
	devices []*device
	links   map[string]*Link
	left    map[string]leftLink // kept and closed
	awaited map[*awaited]struct{}
	full    bool // no group can be joined
	// routeMTUs are of routes that have one.
	routeMTUs map[netip.Addr]int
	// noDirect: no wire can send directly.
	noDirect bool
}

// awaited is a wait for a physical device.
type awaited struct {
	name  string
	index int
	up    func(name string)
}

// A leftLink is a virtual device without a reader.
type leftLink struct {
	engine.LeftLink
	mtu int
}

// A device is a physical device; its index is its position in Host.devices, from 1.
type device struct {
	name  atomic.Pointer[string] // "": it was removed
	down  bool                   // guarded by Host.mu
	mtu   atomic.Int64
	fail  func(p []byte) error // nil: it accepts packets; guarded by Host.mu
	full  chan struct{}        // Send waits until it is closed; nil: does not; guarded by Host.mu
	hops  [2]uint8             // TTL and hop limit; guarded by Host.mu
	wires map[*wire]struct{}   // the open ones; guarded by Host.mu
}

var _ engine.Host = (*Host)(nil)

// NewHost makes a host with addresses and physical devices (MTU 1500) on a
// network.
func NewHost(n *Network, addrs []netip.Addr, devices ...string) *Host {
	h := &Host{net: n, links: map[string]*Link{}, left: map[string]leftLink{}, awaited: map[*awaited]struct{}{}, routeMTUs: map[netip.Addr]int{}, in: newQueue(sync.NewCond(new(sync.Mutex))), icmp: make(chan []byte, 4096)}
	for _, d := range devices {
		h.AddDevice(d, 1500)
	}
	h.addrs.Store(&map[netip.Addr]struct{}{})
	h.ports.Store(1024)
	for _, a := range addrs {
		h.AddAddr(a)
		if f := &h.first[(a.BitLen()-32)/96]; !f.IsValid() {
			*f = a
		}
	}
	n.mu.Lock()
	n.hosts = append(n.hosts, h)
	n.mu.Unlock()
	return h
}

// AddAddr gives the host an address.
func (h *Host) AddAddr(a netip.Addr) {
	h.changeAddrs(func(m map[netip.Addr]struct{}) { m[a] = struct{}{} })
}

// RemoveAddr removes an address.
func (h *Host) RemoveAddr(a netip.Addr) {
	h.changeAddrs(func(m map[netip.Addr]struct{}) { delete(m, a) })
}

func (h *Host) changeAddrs(f func(map[netip.Addr]struct{})) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := maps.Clone(*h.addrs.Load())
	f(m)
	h.addrs.Store(&m)
}

// Wires returns how many wires are open on the host's physical devices.
func (h *Host) Wires() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, d := range h.devices {
		n += len(d.wires)
	}
	return n
}

// Members returns the indexes of the physical devices on which the host is a member of a
// multicast group.
func (h *Host) Members(group netip.Addr) (indexes []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, d := range h.devices {
		for w := range d.wires {
			if w.groups[group] {
				indexes = append(indexes, i+1)
				break
			}
		}
	}
	return indexes
}

// IsLocal reports whether a is one of the host's addresses, or one of 127/8 or
// ::1, which every host has.
func (h *Host) IsLocal(a netip.Addr) bool {
	_, ok := (*h.addrs.Load())[a]
	return ok || a.IsLoopback()
}

// SendICMP sends a packet with an ICMP message. Its source is the destination if that is
// an address of the host, otherwise the host's first address.
func (h *Host) SendICMP(to netip.Addr, tos uint8, m []byte) error {
	src := to
	if !h.IsLocal(to) {
		src = h.first[(to.BitLen()-32)/96]
	}
	m[2], m[3] = 0, 0
	var p []byte
	if to.Is4() {
		binary.BigEndian.PutUint16(m[2:], ^packet.Fold(packet.Sum(m, 0)))
		p = append(make([]byte, 20), m...)
		p[0], p[1], p[5], p[8], p[9] = 0x45, tos, 1, 64, packet.ProtoICMP
		copy(p[12:], src.AsSlice())
		copy(p[16:], to.AsSlice())
	} else {
		p = append(make([]byte, 40), m...)
		p[0], p[1], p[6], p[7] = 0x60|tos>>4, tos<<4, packet.ProtoICMPv6, 64
		copy(p[8:], src.AsSlice())
		copy(p[24:], to.AsSlice())
		pseudo := packet.Sum(p[8:40], uint64(len(m))+packet.ProtoICMPv6)
		binary.BigEndian.PutUint16(p[42:], ^packet.Fold(packet.Sum(p[40:], pseudo)))
	}
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	select {
	case h.icmp <- p:
	default: // no test reads them
	}
	return nil
}

// ICMP returns the channel of the ICMP errors that the stack has sent.
func (h *Host) ICMP() <-chan []byte { return h.icmp }

// SetUnprivilegedPorts sets the first port that unprivileged programs can bind; it is
// 1024 at first.
func (h *Host) SetUnprivilegedPorts(first int) { h.ports.Store(int32(first)) }

// UnprivilegedPorts returns that port.
func (h *Host) UnprivilegedPorts() int { return int(h.ports.Load()) }

// AddDevice gives the host one more physical device.
func (h *Host) AddDevice(name string, mtu int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &device{hops: [2]uint8{64, 64}, wires: map[*wire]struct{}{}}
	d.name.Store(&name)
	d.mtu.Store(int64(mtu))
	h.devices = append(h.devices, d)
	h.look()
}

// SetDeviceMTU changes the MTU of a physical device.
func (h *Host) SetDeviceMTU(name string, mtu int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.device(name); i >= 0 {
		h.devices[i].mtu.Store(int64(mtu))
		for w := range h.devices[i].wires {
			w.on.Resized()
		}
	}
}

// SetRouteMTU gives the route to an address an MTU; 0: that of the device.
func (h *Host) SetRouteMTU(to netip.Addr, mtu int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.routeMTUs, to)
	if mtu != 0 {
		h.routeMTUs[to] = mtu
	}
	for _, d := range h.devices {
		for w := range d.wires {
			w.on.Rerouted()
		}
	}
}

// Refuse makes a physical device call refuse for each packet from now on, and drop
// those for which it returns an error; nil ends that.
func (h *Host) Refuse(name string, refuse func(p []byte) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.device(name); i >= 0 {
		h.devices[i].fail = refuse
	}
}

// Fill makes a physical device full: Send waits until empty is called.
func (h *Host) Fill(name string) (empty func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[h.device(name)]
	full := make(chan struct{})
	d.full = full
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		d.full = nil
		close(full)
	}
}

// RefuseGroups makes Join of wires fail with ENOBUFS, or ends that.
func (h *Host) RefuseGroups(refuse bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.full = refuse
}

// SetHops sets the TTL and the hop limit of packets on a physical device, for wires
// that are opened from now on. They are 64 at first.
func (h *Host) SetHops(name string, v4, v6 uint8) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.device(name); i >= 0 {
		h.devices[i].hops = [2]uint8{v4, v6}
	}
}

// TakeDown takes a physical device down. Its users are notified, and have closed it
// when TakeDown returns. It can be opened again at once, as on Linux, where it need not
// be up for that.
func (h *Host) TakeDown(name string) {
	h.lose(name, func(d *device) { d.down = true })
}

// RemoveDevice removes a physical device, and notifies its users like TakeDown.
func (h *Host) RemoveDevice(name string) {
	h.lose(name, func(d *device) { d.name.Store(new(string)) })
}

// BringUp brings a physical device up and notifies those who wait for it.
func (h *Host) BringUp(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.device(name); i >= 0 {
		h.devices[i].down = false
	}
	h.look()
}

// RenameDevice gives a physical device another name and notifies its users.
func (h *Host) RenameDevice(name, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.device(name); i >= 0 {
		h.devices[i].name.Store(&to)
		for w := range h.devices[i].wires {
			w.on.Renamed()
		}
	}
}

// WhenUp calls up when the device with an index, or else that with a name, is up.
func (h *Host) WhenUp(name string, index int, up func(name string)) (stop func()) {
	a := &awaited{name, index, up}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.awaited[a] = struct{}{}
	h.look()
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.awaited, a)
	}
}

// look notifies those who wait for a device that is up. The caller holds h.mu.
func (h *Host) look() {
	for a := range h.awaited {
		i := a.index - 1
		if i < 0 || *h.devices[i].name.Load() == "" {
			i = h.device(a.name)
		}
		if i >= 0 && !h.devices[i].down {
			delete(h.awaited, a)
			a.up(*h.devices[i].name.Load())
		}
	}
}

// lose changes a physical device so that it can no longer be used, and returns when all
// its users have closed it.
func (h *Host) lose(name string, change func(*device)) {
	h.mu.Lock()
	var users []*wire
	if i := h.device(name); i >= 0 {
		users = slices.Collect(maps.Keys(h.devices[i].wires))
		change(h.devices[i])
	}
	h.mu.Unlock()
	for _, w := range users {
		w.on.Lost()
	}
	for _, w := range users {
		<-w.closed
	}
}

// device returns the position of a physical device, -1 if no device has that name. The
// caller holds h.mu.
func (h *Host) device(name string) int {
	return slices.IndexFunc(h.devices, func(d *device) bool { return *d.name.Load() == name })
}

// Arrive makes a packet arrive on the first physical device.
func (h *Host) Arrive(p []byte) { h.ArriveBy(1, p) }

// ArriveBy makes a packet arrive on the physical device with an index; they are
// numbered from 1.
func (h *Host) ArriveBy(index int, p []byte) {
	h.in.put(item{bytes: append([]byte(nil), p...), index: index})
}

// Settle returns when the stack has handled all packets that have arrived or were
// routed into its devices.
func (h *Host) Settle() {
	h.mu.Lock()
	queues := []*queue{h.in}
	for _, l := range h.links {
		queues = append(queues, l.out)
	}
	h.mu.Unlock()
	// A queue that is idle can get something from one that is looked at later.
	for before := -1; ; {
		puts := 0
		for _, q := range queues {
			puts += q.settle()
		}
		if puts == before {
			return
		}
		before = puts
	}
}

// Link returns the virtual device of that name, nil if there is none.
func (h *Host) Link(name string) *Link {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links[name]
}

// LeftLinks returns the virtual devices that were kept and closed.
func (h *Host) LeftLinks() ([]engine.LeftLink, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var l []engine.LeftLink
	for _, k := range h.left {
		l = append(l, k.LeftLink)
	}
	slices.SortFunc(l, func(a, b engine.LeftLink) int { return strings.Compare(a.Name, b.Name) })
	return l, nil
}

// Leave adds a virtual device that was kept and closed.
func (h *Host) Leave(name, physical string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left[name] = leftLink{engine.LeftLink{Name: name, Physical: physical}, klips.DeviceMTU}
}

// OpenLink makes a virtual device, or takes up a left one.
func (h *Host) OpenLink(name string) (engine.Link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links[name] != nil {
		return nil, syscall.EEXIST
	}
	l := &Link{name: name, host: h, mtu: 1500, out: newQueue(h.in.changed), in: make(chan []byte, 4096), closed: make(chan struct{})}
	if left, ok := h.left[name]; ok {
		l.kept, l.mtu = &left.LeftLink, left.mtu
		delete(h.left, name)
	}
	h.links[name] = l
	return l, nil
}

// OpenWire opens a physical device.
func (h *Host) OpenWire(physical string, on engine.WireEvents) (engine.Wire, error) {
	name, _, _ := strings.Cut(physical, ":")
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.device(name)
	if i < 0 {
		return nil, syscall.ENXIO
	}
	w := &wire{host: h, dev: h.devices[i], index: i + 1, hops: h.devices[i].hops, on: on, groups: map[netip.Addr]bool{}, closed: make(chan struct{})}
	w.dev.wires[w] = struct{}{}
	return w, nil
}

// Direct returns how many open wires of a physical device send directly.
func (h *Host) Direct(physical string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.device(physical); i >= 0 {
		for w := range h.devices[i].wires {
			if w.direct {
				n++
			}
		}
	}
	return n
}

// ForbidDirect makes wires refuse to send directly.
func (h *Host) ForbidDirect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noDirect = true
}

// OpenReceiver starts receiving.
func (h *Host) OpenReceiver(int) (engine.Receiver, error) {
	h.in.open() // an earlier receiver may have closed it
	return (*receiver)(h), nil
}

type receiver Host

func (r *receiver) Recv(bufs []*packet.Buffer, ifindex []int) (int, error) {
	p, ok, err := r.in.take()
	if err != nil || !ok {
		return 0, err
	}
	b := bufs[0]
	b.Put(p.bytes)
	ifindex[0] = p.index
	return 1, nil
}

func (r *receiver) Close() error {
	r.in.close()
	return nil
}

// Join makes Recv also wait for the packets of a link; nil: not any more.
func (r *receiver) Join(l engine.Link) {
	if l == nil {
		r.in.join(nil)
		return
	}
	r.in.join(l.(*Link).out)
}

func (r *receiver) SetUDPPorts([]uint16) {}

func (r *receiver) Release() {}

type wire struct {
	host  *Host
	dev   *device
	index int
	hops  [2]uint8
	on    engine.WireEvents
	// groups are those that it is a member of; guarded by host.mu.
	groups map[netip.Addr]bool
	direct bool // guarded by host.mu
	// closed is closed by Close.
	closed chan struct{}
}

func (w *wire) Name() string { return *w.dev.name.Load() }
func (w *wire) Index() int   { return w.index }
func (w *wire) MTU() int     { return int(w.dev.mtu.Load()) }

func (w *wire) RouteMTU(to netip.Addr) int {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	if mtu, ok := w.host.routeMTUs[to]; ok {
		return min(mtu, w.MTU())
	}
	return w.MTU()
}

func (w *wire) Hops() (v4, v6 uint8) { return w.hops[0], w.hops[1] }

// Join makes the host a member of a group.
func (w *wire) Join(group netip.Addr) error {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	if w.host.full {
		return syscall.ENOBUFS
	}
	w.groups[group] = true
	return nil
}

// Leave ends a membership.
func (w *wire) Leave(group netip.Addr) error {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	delete(w.groups, group)
	return nil
}

// Direct is recorded for Host.Direct. The network of the host has no other way.
func (w *wire) Direct() error {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	if w.host.noDirect {
		return syscall.EAFNOSUPPORT
	}
	w.direct = true
	return nil
}

func (w *wire) Close() error {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	if _, open := w.dev.wires[w]; open {
		delete(w.dev.wires, w)
		close(w.closed)
	}
	return nil
}

func (w *wire) Send(pkts []*packet.Buffer, fail func(*packet.Buffer, error), full func()) {
	w.host.mu.Lock()
	refuse, wait := w.dev.fail, w.dev.full
	w.host.mu.Unlock()
	if wait != nil {
		if full != nil {
			full()
		}
		<-wait
	}
	for _, b := range pkts {
		if refuse != nil {
			if err := refuse(b.Bytes()); err != nil {
				fail(b, err)
				continue
			}
		}
		w.host.net.send(w.host, b.Bytes())
	}
}

package host

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/udpport"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// sendBatch is the maximum number of packets in one system call.
const sendBatch = 128

// A Host is this machine, as seen from the network namespace in which it was opened. It
// implements engine.Host.
type Host struct {
	local atomic.Pointer[map[netip.Addr]struct{}]
	news  *rtnl.Watcher
	done  chan struct{}

	mu      sync.Mutex // guards the fields below
	wires   map[*wire]struct{}
	links   map[*link]struct{}
	awaited map[*awaited]struct{}

	ports    *rawip.Ports
	receiver *rawip.Receiver // nil until it is opened
	moved    func(gone []netip.Addr)

	inherited inherited

	icmp rawip.ICMPSender
}

var _ engine.Host = (*Host)(nil)

// Open starts to watch the host's addresses and devices. The goroutine that it starts
// ends with Close.
func Open() (*Host, error) {
	h := &Host{done: make(chan struct{}), wires: map[*wire]struct{}{}, links: map[*link]struct{}{}, awaited: map[*awaited]struct{}{}}
	h.ports = rawip.NewPorts(h.IsLocal)
	w, err := rtnl.Watch()
	if err != nil {
		return nil, err
	}
	h.news = w
	if _, err := h.readAddrs(); err != nil {
		w.Close()
		return nil, err
	}
	go h.watch()
	return h, nil
}

// Close stops watching. It does not close links, wires or receivers; their openers do.
func (h *Host) Close() error {
	err := h.news.Close()
	<-h.done
	h.inherited.close()
	h.ports.Close()
	h.icmp.Close()
	return err
}

// UnprivilegedPorts returns the first port that unprivileged programs can bind.
func (h *Host) UnprivilegedPorts() int { return udpport.Unprivileged() }

// OfferPorts gives the host UDP sockets, see [rawip.Ports.Offer].
func (h *Host) OfferPorts(fds []int) { h.ports.Offer(fds) }

// IsLocal reports whether a is one of the host's own addresses; all of 127.0.0.0/8 are.
func (h *Host) IsLocal(a netip.Addr) bool {
	if a.Is4() && a.IsLoopback() {
		return true
	}
	_, ok := (*h.local.Load())[a]
	return ok
}

// SendICMP sends an ICMP or ICMPv6 message from an address of the host.
func (h *Host) SendICMP(to netip.Addr, tos uint8, m []byte) error { return h.icmp.Send(to, tos, m) }

// readAddrs reads all addresses, and returns those that the host has lost. Changes are
// rare and lists short; reading the whole set also repairs a lost event.
func (h *Host) readAddrs() (gone []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				set[ip.Unmap()] = struct{}{}
			}
		}
	}
	if old := h.local.Swap(&set); old != nil {
		for a := range *old {
			if _, ok := set[a]; !ok {
				gone = append(gone, a)
			}
		}
	}
	return gone, nil
}

// OnMoved sets the function to call when an address or a default route of the host may
// have changed, with the addresses that the host has lost. The watching goroutine calls
// it: f must not wait. There is only one f.
func (h *Host) OnMoved(f func(gone []netip.Addr)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved = f
}

// tellMoved calls the function of OnMoved.
func (h *Host) tellMoved(gone []netip.Addr) {
	h.mu.Lock()
	tell := h.moved
	h.mu.Unlock()
	if tell != nil {
		tell(gone)
	}
}

// watch follows the changes of addresses, devices, routes and neighbours until the socket
// closes.
func (h *Host) watch() {
	defer close(h.done)
	for {
		news, err := h.news.Wait()
		switch {
		case errors.Is(err, unix.ENOBUFS): // anything may have changed
			news.Devices = true
		case err != nil: // usually the socket was closed
			return
		}
		h.tellHops(&news)
		switch {
		case news.Devices:
			gone, _ := h.readAddrs()
			h.readDevices()
			h.tellMoved(gone)
		case news.Default:
			h.tellMoved(nil)
		}
	}
}

// OpenLink makes a TUN device, or opens one that another daemon has left.
func (h *Host) OpenLink(name string) (engine.Link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := openLink
	if fd, ok := h.inherited.links[name]; ok {
		delete(h.inherited.links, name)
		open = func(string) (*link, error) { return newLink(fd) }
	}
	l, err := open(name)
	if err != nil {
		return nil, err
	}
	l.host = h
	h.links[l] = struct{}{}
	return l, nil
}

// LeftLinks returns the TUN devices that other daemons have left.
func (h *Host) LeftLinks() ([]engine.LeftLink, error) { return Left() }

// MTU returns the system's MTU of a device.
func (h *Host) MTU(name string) (int, error) { return mtu(name) }

// OpenReceiver opens raw sockets for ESP and AH.
func (h *Host) OpenReceiver(batch int) (engine.Receiver, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := rawip.NewReceiver(h.ports, batch, h.inherited.sockets...)
	h.inherited.sockets = nil
	if err != nil {
		return nil, err
	}
	h.receiver = r
	return receiver{r}, nil
}

// receiver is the receiver of a Host.
type receiver struct{ *rawip.Receiver }

// Join makes Recv also wait for the packets of a link of the host; nil: not any more.
func (r receiver) Join(l engine.Link) {
	if l == nil {
		r.Receiver.Join(nil)
		return
	}
	link := l.(*link)
	link.joined.Store(r.Receiver) // Close looks there after it has closed
	r.Receiver.Join(link)
}

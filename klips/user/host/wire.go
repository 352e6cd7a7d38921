package host

import (
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/nexthop"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// wire is a sender that the host keeps up to date.
type wire struct {
	*rawip.Sender
	host *Host
	on   engine.WireEvents
	name atomic.Pointer[string]
	up   bool           // guarded by host.mu; it may be attached before it is up
	hops [2]uint8       // TTL and hop limit
	next *nexthop.Table // nil: it does not send directly; guarded by host.mu

	routeMTUs routeMTUs
}

// OpenWire opens raw sockets bound to the physical device.
func (h *Host) OpenWire(physical string, on engine.WireEvents) (engine.Wire, error) {
	name, _, _ := strings.Cut(physical, ":")
	s, err := rawip.NewSender(h.ports, name, sendBatch)
	if err != nil {
		return nil, err
	}
	ifi, err := net.InterfaceByIndex(s.Index())
	if err != nil {
		s.Close()
		return nil, unix.ENXIO
	}
	w := &wire{
		Sender: s, host: h, on: on, up: ifi.Flags&net.FlagUp != 0,
		hops: [2]uint8{hops("net/ipv4/ip_default_ttl"), hops("net/ipv6/conf/" + ifi.Name + "/hop_limit")},
	}
	w.name.Store(&ifi.Name)
	h.mu.Lock()
	h.wires[w] = struct{}{}
	h.mu.Unlock()
	return w, nil
}

// Name returns the device's current name.
func (w *wire) Name() string { return *w.name.Load() }

// Hops returns the TTL and the hop limit of the host's packets on the device, as they
// were when it was opened.
func (w *wire) Hops() (v4, v6 uint8) { return w.hops[0], w.hops[1] }

// Direct makes Send send what an SA has made past the kernel's IP output where it can, see
// [rawip.Sender.Direct].
func (w *wire) Direct() error {
	// The news must begin before the first question, so that no answer gets old unseen.
	if err := w.host.news.Neighbours(); err != nil {
		return err
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	next, began := nexthop.New(c, w.Index()), time.Now()
	if err := w.Sender.Direct(next, func() int64 { return int64(time.Since(began)) }); err != nil {
		next.Close()
		return err
	}
	w.host.mu.Lock()
	w.next = next
	w.host.mu.Unlock()
	return nil
}

// tellHops tells the wires, and what chooses their next hops, what may have changed.
func (h *Host) tellHops(news *rtnl.News) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.wires {
		if news.Devices || news.Routes {
			w.routeMTUs.forget()
			w.on.Rerouted()
		}
		if w.next == nil {
			continue
		}
		if news.Devices || news.Routes {
			w.next.Forget()
		}
		for i := range news.Neighbours {
			w.next.Changed(&news.Neighbours[i])
		}
	}
}

func (w *wire) Close() error {
	w.host.mu.Lock()
	delete(w.host.wires, w)
	next := w.next
	w.host.mu.Unlock()
	w.routeMTUs.close()
	err := w.Sender.Close()
	if next != nil {
		next.Close()
	}
	return err
}

// awaited is a wait for a physical device.
type awaited struct {
	name  string
	index int // 0: unknown
	up    func(name string)
}

// WhenUp calls up when the device with an index, or else that with a name, is up.
func (h *Host) WhenUp(name string, index int, up func(name string)) (stop func()) {
	a := &awaited{name, index, up}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.awaited[a] = struct{}{}
	h.look(a)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.awaited, a)
	}
}

// look checks whether a device is up, and calls the function once. The caller holds
// h.mu.
func (h *Host) look(a *awaited) {
	ifi, err := net.InterfaceByIndex(a.index)
	if err != nil {
		ifi, err = net.InterfaceByName(a.name)
	}
	if err == nil && ifi.Flags&net.FlagUp != 0 {
		delete(h.awaited, a)
		a.up(ifi.Name)
	}
}

// readDevices reads all physical devices in use. A new MTU applies from the next packet
// on. The users of a device are notified of a new name, and when it is down or removed.
func (h *Host) readDevices() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.wires {
		ifi, err := net.InterfaceByIndex(w.Index())
		if err == nil && ifi.Name != w.Name() {
			w.name.Store(&ifi.Name)
			w.on.Renamed()
		}
		switch {
		case err == nil && ifi.Flags&net.FlagUp != 0:
			if w.MTU() != ifi.MTU {
				w.SetMTU(ifi.MTU)
				w.on.Resized()
			}
			w.Refit() // an address may be new, too
			w.up = true
		case err != nil || w.up:
			w.up = false
			w.on.Lost()
		}
	}
	for a := range h.awaited {
		h.look(a)
	}
	for l := range h.links {
		if l.shared.index != 0 {
			_ = l.share() // the next change tries again
		}
	}
}

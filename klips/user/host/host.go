package host

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// sendBatch is how many packets one system call sends at most.
const sendBatch = 128

// A Host is this machine, seen from the network namespace it was opened in. It
// implements engine.Host.
type Host struct {
	local atomic.Pointer[map[netip.Addr]struct{}]
	conn  *netlink.Conn
	done  chan struct{}

	mu    sync.Mutex
	wires map[*wire]struct{}
}

var _ engine.Host = (*Host)(nil)

// Open begins to watch the host's addresses and devices. The goroutine it
// starts ends with Close.
func Open() (*Host, error) {
	h := &Host{done: make(chan struct{}), wires: map[*wire]struct{}{}}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR,
	})
	if err != nil {
		return nil, err
	}
	h.conn = c
	if err := h.readAddrs(); err != nil {
		c.Close()
		return nil, err
	}
	go h.watch()
	return h, nil
}

// Close ends the watching. Links, wires and receivers are closed by who opened
// them.
func (h *Host) Close() error {
	err := h.conn.Close()
	<-h.done
	return err
}

// IsLocal reports whether a is one of the host's own addresses; the whole of
// 127.0.0.0/8 is.
func (h *Host) IsLocal(a netip.Addr) bool {
	if a.Is4() && a.IsLoopback() {
		return true
	}
	_, ok := (*h.local.Load())[a]
	return ok
}

// readAddrs reads all addresses anew. Changes are rare and lists short; a whole
// new set also heals a lost event.
func (h *Host) readAddrs() error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				set[ip.Unmap()] = struct{}{}
			}
		}
	}
	h.local.Store(&set)
	return nil
}

// watch follows address and device changes until the socket closes.
func (h *Host) watch() {
	defer close(h.done)
	for {
		_, err := h.conn.Receive()
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS):
		case errors.Is(err, net.ErrClosed), errors.Is(err, unix.EBADF):
			return
		default:
			return
		}
		_ = h.readAddrs()
		h.readDevices()
	}
}

// readDevices looks at all physical devices in use: a new MTU counts from the
// next packet on, one that is down or gone is reported. An index that belongs to
// another name, or to none, is a device that is gone.
func (h *Host) readDevices() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.wires {
		ifi, err := net.InterfaceByIndex(w.Index())
		switch {
		case err == nil && ifi.Flags&net.FlagUp != 0:
			w.SetMTU(ifi.MTU)
			w.up = true
		case err != nil || w.up:
			w.up = false
			w.lost()
		}
	}
}

// OpenLink makes a TUN device, or takes one up that a daemon has left.
func (h *Host) OpenLink(name string) (engine.Link, error) { return openLink(name) }

// LeftLinks returns the TUN devices that a daemon has left.
func (h *Host) LeftLinks() ([]engine.LeftLink, error) { return Left() }

// MTU returns the MTU that the system shows for a device.
func (h *Host) MTU(name string) (int, error) { return mtu(name) }

// OpenReceiver opens raw sockets for ESP and AH.
func (h *Host) OpenReceiver(batch int) (engine.Receiver, error) { return rawip.NewReceiver(batch) }

// wire is a sender that the host keeps up to date.
type wire struct {
	*rawip.Sender
	host *Host
	lost func()
	up   bool     // guarded by host.mu; it may be attached before it is up
	hops [2]uint8 // TTL and hop limit
}

// OpenWire opens raw sockets bound to the physical device.
func (h *Host) OpenWire(physical string, lost func()) (engine.Wire, error) {
	name, _, _ := strings.Cut(physical, ":")
	s, err := rawip.NewSender(name, sendBatch)
	if err != nil {
		return nil, err
	}
	ifi, err := net.InterfaceByIndex(s.Index())
	if err != nil {
		s.Close()
		return nil, unix.ENXIO
	}
	w := &wire{
		Sender: s, host: h, lost: lost, up: ifi.Flags&net.FlagUp != 0,
		hops: [2]uint8{hops("net/ipv4/ip_default_ttl"), hops("net/ipv6/conf/" + ifi.Name + "/hop_limit")},
	}
	h.mu.Lock()
	h.wires[w] = struct{}{}
	h.mu.Unlock()
	return w, nil
}

// Hops returns the TTL and the hop limit of the host's packets by the device as
// they were when it was opened.
func (w *wire) Hops() (v4, v6 uint8) { return w.hops[0], w.hops[1] }

func (w *wire) Close() error {
	w.host.mu.Lock()
	delete(w.host.wires, w)
	w.host.mu.Unlock()
	return w.Sender.Close()
}

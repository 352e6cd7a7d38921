package rtnl

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Watcher receives the kernel's messages about changes of devices, addresses, routes and
// rules of routing in one network namespace, and about neighbours if it was asked for them.
type Watcher struct{ sock *netlink.Conn }

// Watch starts to watch the network namespace of the calling thread.
func Watch() (*Watcher, error) {
	n, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
			unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to rtnetlink: %w", err)
	}
	for _, g := range [...]uint32{groupRules4, groupRules6} {
		if err := n.JoinGroup(g); err != nil {
			n.Close()
			return nil, fmt.Errorf("watch rules of routing: %w", err)
		}
	}
	return &Watcher{n}, nil
}

// Close ends watching, and a Wait in progress.
func (w *Watcher) Close() error { return w.sock.Close() }

// Groups of neighbours and of routing rules (enum rtnetlink_groups).
const (
	groupNeighbours = 3  // RTNLGRP_NEIGH
	groupRules4     = 8  // RTNLGRP_IPV4_RULE
	groupRules6     = 19 // RTNLGRP_IPV6_RULE
)

// Neighbours begins the messages about neighbours. Any goroutine may call it, also during a
// Wait.
func (w *Watcher) Neighbours() error {
	if err := w.sock.JoinGroup(groupNeighbours); err != nil {
		return fmt.Errorf("watch neighbours: %w", err)
	}
	return nil
}

// News is the subjects of some messages of the kernel.
type News struct {
	Default bool // a default route, of any table
	Devices bool // a device or an address
	Routes  bool // any route, or a rule
	// Neighbours are those that have changed, in that order. A removed one is not usable.
	Neighbours []Neighbour
}

// Wait waits for the next messages. ENOBUFS: messages were lost because the socket was
// full.
func (w *Watcher) Wait() (News, error) {
	messages, err := w.sock.Receive()
	return newsOf(messages), err
}

// newsOf returns the subjects of messages. Of the routes only default ones are reported
// apart; a router can have a million others.
func newsOf(messages []netlink.Message) (n News) {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			n.Routes = true
			if len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0 { // rtm_dst_len
				n.Default = true
			}
		case unix.RTM_NEWRULE, unix.RTM_DELRULE:
			n.Routes = true
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			k := parseNeighbour(m.Data)
			if m.Header.Type == unix.RTM_DELNEIGH {
				k.Link, k.Usable = [6]byte{}, false
			}
			if k.Addr.IsValid() {
				n.Neighbours = append(n.Neighbours, k)
			}
		default:
			n.Devices = true
		}
	}
	return n
}

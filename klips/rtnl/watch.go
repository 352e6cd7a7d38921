package rtnl

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Watcher receives the kernel's messages about changes of devices, addresses and
// routes in one network namespace.
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
	return &Watcher{n}, nil
}

// Close ends watching, and a Wait in progress.
func (w *Watcher) Close() error { return w.sock.Close() }

// News is the subjects of some messages of the kernel.
type News struct {
	Default bool // a default route, of any table
	Devices bool // a device or an address
}

// Wait waits for the next messages. ENOBUFS: messages were lost because the socket was
// full.
func (w *Watcher) Wait() (News, error) {
	messages, err := w.sock.Receive()
	return newsOf(messages), err
}

// newsOf returns the subjects of messages. Only default routes are reported; a router
// can have a million others.
func newsOf(messages []netlink.Message) (n News) {
	for _, m := range messages {
		switch {
		case m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE:
			n.Devices = true
		case len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0: // rtm_dst_len
			n.Default = true
		}
	}
	return n
}

package routes

import (
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Add adds a route to the main table. Of one that another function has returned
// everything counts, else Dst, Gateway, Device and Metric. EEXIST: there is one to
// that network. ENODEV: there is no such device.
func Add(r Route) error {
	b, err := r.message()
	if err != nil {
		return err
	}
	return change(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, b)
}

// Replace puts a route in the place of that which packets to its network take, in
// one message: there is no moment without a route. It returns the old route, which
// Replace puts back as it was; ok is false if there was none, and the route has
// been added. The new route has the metric of the old one, because that is its
// place. Errors are those of Add.
func Replace(r Route) (old Route, ok bool, err error) {
	list, err := List()
	if err != nil {
		return old, false, err
	}
	if old, ok = To(list, r.Dst); !ok {
		return old, false, Add(r)
	}
	if r.raw == nil {
		r.Metric = old.Metric
	}
	b, err := r.message()
	if err != nil {
		return old, true, err
	}
	return old, true, change(unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, b)
}

// Remove removes the first route to a network from the main table; Device and
// Gateway count if they are given. It returns that route, which Add puts back as
// it was. ESRCH: there is none.
func Remove(r Route) (old Route, err error) {
	list, err := List()
	if err != nil {
		return old, err
	}
	for _, k := range list {
		if k.Dst != r.Dst || k.tos != 0 || r.Device != "" && k.Device != r.Device || r.Gateway.IsValid() && k.Gateway != r.Gateway {
			continue
		}
		return k, change(unix.RTM_DELROUTE, 0, k.raw)
	}
	return old, unix.ESRCH
}

// message returns a struct rtmsg and its attributes.
func (r *Route) message() ([]byte, error) {
	if r.raw != nil {
		return r.raw, nil
	}
	dev, err := net.InterfaceByName(r.Device)
	if err != nil {
		return nil, unix.ENODEV
	}
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = unix.AF_INET
	if r.Dst.Addr().Is6() {
		head[0] = unix.AF_INET6
	}
	head[1] = byte(r.Dst.Bits())
	head[4] = unix.RT_TABLE_MAIN
	head[5] = unix.RTPROT_BOOT
	head[7] = unix.RTN_UNICAST
	if !r.Gateway.IsValid() && r.Dst.Addr().Is4() {
		head[6] = unix.RT_SCOPE_LINK
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.RTA_DST, r.Dst.Addr().AsSlice())
	e.Uint32(unix.RTA_OIF, uint32(dev.Index))
	if r.Gateway.IsValid() {
		e.Bytes(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.Metric != 0 {
		e.Uint32(unix.RTA_PRIORITY, r.Metric)
	}
	attrs, err := e.Encode()
	return append(head, attrs...), err
}

// change sends a request that changes routes. Errors are syscall.Errno, as far
// as they are the kernel's answer.
func change(kind netlink.HeaderType, flags netlink.HeaderFlags, data []byte) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return err
}

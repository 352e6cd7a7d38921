// Package mmsg sends and receives many packets per system call: sendmmsg(2) and
// recvmmsg(2) on sockets that the caller owns, without an allocation per packet.
// golang.org/x/net/ipv4 allocates an address for every packet that it reads.
package mmsg

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hdr is struct mmsghdr.
type hdr struct {
	msg unix.Msghdr
	n   uint32
}

// controlSize is room for the control messages of a packet: packet info, hop limit,
// traffic class, flow label, segment size, and the usual number of extension headers.
const controlSize = 704

// FlowInfo is the socket option IPV6_FLOWINFO of Linux, and the type of the control
// message that the option asks for: the first four bytes of the IPv6 header without the
// version.
const FlowInfo = 11

// A Batch is a set of messages for one call. One goroutine uses it at a time.
type Batch struct {
	hdrs  []hdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6 // large enough for either family
	ctl   [][controlSize]byte
	ext   []byte // what Info returns as Ext
}

// NewBatch makes room for n messages.
func NewBatch(n int) *Batch {
	b := &Batch{
		hdrs:  make([]hdr, n),
		iovs:  make([]unix.Iovec, n),
		names: make([]unix.RawSockaddrInet6, n),
		ctl:   make([][controlSize]byte, n),
		ext:   make([]byte, 0, controlSize),
	}
	for i := range b.hdrs {
		h := &b.hdrs[i].msg
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
	}
	return b
}

// Len returns the number of messages that fit.
func (b *Batch) Len() int { return len(b.hdrs) }

// SetSend makes message i carry p (not empty) to dst. p must not change until Send has
// returned. zone is the interface index for link-local IPv6 destinations.
func (b *Batch) SetSend(i int, p []byte, dst netip.Addr, zone uint32) {
	b.setSend(i, p).Namelen = putAddr(&b.names[i], dst, zone)
}

// setSend makes message i carry p to the address that is in its name, without control
// messages. The caller sets the length of the name.
func (b *Batch) setSend(i int, p []byte) *unix.Msghdr {
	b.iovs[i].Base = &p[0]
	b.iovs[i].SetLen(len(p))
	h := &b.hdrs[i].msg
	h.Control = nil
	h.SetControllen(0)
	h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	return h
}

// putAddr writes an address of either family, with port 0, and returns its length. zone is
// the interface index for link-local IPv6 addresses.
func putAddr(name *unix.RawSockaddrInet6, a netip.Addr, zone uint32) (length uint32) {
	if a.Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(name)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.As4()}
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.As16()}
	if a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() {
		name.Scope_id = zone
	}
	return unix.SizeofSockaddrInet6
}

// SetSendLink makes message i carry p, an IP packet, to an Ethernet address of a device,
// by a packet socket (packet(7)) of type SOCK_DGRAM. p must not change until Send has
// returned.
func (b *Batch) SetSendLink(i int, p []byte, ifindex int, to [6]byte) {
	b.setSend(i, p).Namelen = unix.SizeofSockaddrLinklayer
	sa := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&b.names[i]))
	*sa = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(ifindex), Halen: uint8(len(to))}
	protocol := uint16(unix.ETH_P_IP)
	if p[0]>>4 == 6 {
		protocol = unix.ETH_P_IPV6
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Protocol))[:], protocol)
	copy(sa.Addr[:], to[:])
}

// Send sends the messages from from up to to, and waits while the socket is full. Before it
// waits it calls full, unless that is nil. It returns how many were sent. If there is an
// error, the message after those has caused it.
func (b *Batch) Send(fd, from, to int, full func()) (int, error) {
	// The first attempt does not wait, so the scheduler need not know of it. To give up
	// the processor and get it back often costs more than the call itself.
	n, e := b.send(syscall.RawSyscall6, fd, from, to, unix.MSG_DONTWAIT)
	if e == unix.EAGAIN && full != nil {
		full()
	}
	for e == unix.EAGAIN || e == unix.EINTR {
		n, e = b.send(syscall.Syscall6, fd, from, to, 0)
	}
	if e != 0 {
		return 0, e
	}
	return n, nil
}

type syscall6 func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)

func (b *Batch) send(call syscall6, fd, from, to, flags int) (int, syscall.Errno) {
	n, _, e := call(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&b.hdrs[from])), uintptr(to-from), uintptr(flags), 0, 0)
	runtime.KeepAlive(b)
	return int(n), e
}

// SetRecv makes message i receive into p.
func (b *Batch) SetRecv(i int, p []byte) {
	b.iovs[i].Base = &p[0]
	b.iovs[i].SetLen(len(p))
	h := &b.hdrs[i].msg
	h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	h.Namelen = unix.SizeofSockaddrInet6
	h.Control = &b.ctl[i][0]
	h.SetControllen(controlSize)
}

// Recv receives up to n messages into buffers set by SetRecv, without waiting. EAGAIN:
// there is none.
func (b *Batch) Recv(fd, n int) (int, error) {
	for {
		r, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(b)
		switch e {
		case 0:
			return int(r), nil
		case unix.EINTR:
			continue
		}
		return 0, e
	}
}

// Received returns the length and source of message i after Recv, and whether it was
// longer than its buffer. A raw socket's source has no port.
func (b *Batch) Received(i int) (n int, src netip.AddrPort, truncated bool) {
	h := &b.hdrs[i]
	// The port is at the same place in both families.
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&b.names[i].Port))[:])
	switch b.names[i].Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&b.names[i]))
		src = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port)
	case unix.AF_INET6:
		src = netip.AddrPortFrom(netip.AddrFrom16(b.names[i].Addr), port)
	}
	return int(h.n), src, h.msg.Flags&unix.MSG_TRUNC != 0
}

// Info is the content of the control messages of a received packet, as far as the socket
// was asked for them.
type Info struct {
	IfIndex  uint32
	Dst      netip.Addr
	HopLimit uint8  // the TTL in IPv4
	Class    uint8  // the TOS in IPv4
	Label    uint32 // IPv6 only: the flow label
	Segment  int    // bytes of each UDP datagram of a message of several (UDP_GRO); 0: it is one
	// Ext are the IPv6 extension headers that the socket was asked for, in their order.
	// First is the type of the first. They are valid until the next call of Info. Ext is
	// empty if there was not enough room for all.
	Ext   []byte
	First uint8
}

// Info reads the control messages of message i.
func (b *Batch) Info(i int) Info {
	in := Info{Ext: b.ext[:0]}
	ctl := b.ctl[i][:]
	if n := int(b.hdrs[i].msg.Controllen); n < len(ctl) {
		ctl = ctl[:n]
	}
	for len(ctl) >= unix.SizeofCmsghdr {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&ctl[0]))
		n := int(c.Len)
		if n < unix.SizeofCmsghdr || n > len(ctl) {
			break
		}
		d := ctl[unix.CmsgLen(0):n]
		switch {
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO && len(d) >= unix.SizeofInet4Pktinfo:
			pi := (*unix.Inet4Pktinfo)(unsafe.Pointer(&d[0]))
			in.IfIndex, in.Dst = uint32(pi.Ifindex), netip.AddrFrom4(pi.Addr)
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_TTL && len(d) >= 4:
			in.HopLimit = uint8(*(*int32)(unsafe.Pointer(&d[0])))
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_TOS && len(d) >= 1:
			in.Class = d[0]
		case c.Level == unix.IPPROTO_UDP && c.Type == unix.UDP_GRO && len(d) >= 4:
			in.Segment = int(max(0, *(*int32)(unsafe.Pointer(&d[0]))))
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && len(d) >= unix.SizeofInet6Pktinfo:
			pi := (*unix.Inet6Pktinfo)(unsafe.Pointer(&d[0]))
			in.IfIndex, in.Dst = pi.Ifindex, netip.AddrFrom16(pi.Addr)
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_HOPLIMIT && len(d) >= 4:
			in.HopLimit = uint8(*(*int32)(unsafe.Pointer(&d[0])))
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_TCLASS && len(d) >= 4:
			in.Class = uint8(*(*int32)(unsafe.Pointer(&d[0])))
		case c.Level == unix.IPPROTO_IPV6 && c.Type == FlowInfo && len(d) >= 4:
			in.Label = binary.BigEndian.Uint32(d) & 0xfffff
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_HOPOPTS:
			in.extend(unix.IPPROTO_HOPOPTS, d)
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_DSTOPTS:
			in.extend(unix.IPPROTO_DSTOPTS, d)
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_RTHDR:
			in.extend(unix.IPPROTO_ROUTING, d)
		}
		step := unix.CmsgSpace(n - unix.CmsgLen(0))
		if step > len(ctl) {
			break
		}
		ctl = ctl[step:]
	}
	if b.hdrs[i].msg.Flags&unix.MSG_CTRUNC != 0 || len(in.Ext) == 0 {
		in.Ext, in.First = nil, 0
	}
	return in
}

// extend adds an extension header after the others.
func (in *Info) extend(kind uint8, d []byte) {
	if len(in.Ext) == 0 {
		in.First = kind
	}
	in.Ext = append(in.Ext, d...)
}

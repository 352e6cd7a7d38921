package mmsg

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of a Run: the kernel's for the datagrams in one call (UDP_MAX_SEGMENTS before
// Linux 6.9), and for their bytes over IPv4.
const (
	MaxRun      = 64
	MaxRunBytes = 65535 - 20 - 8
)

// runControl is room for the control messages of a Run.
const runControl = 128

// A Run is UDP datagrams with the same headers that are sent by one system call: the
// kernel, or even the device, makes them of one long message (UDP_SEGMENT, Linux 4.18).
// All have the same length; only the last one may be shorter. One goroutine uses it at a
// time.
type Run struct {
	msg  unix.Msghdr
	iovs [MaxRun]unix.Iovec
	name unix.RawSockaddrInet6 // large enough for either family
	ctl  [runControl]byte
	n    int
	size int // of the first datagram
}

// Headers are what the IP and UDP headers of a Run have, besides the port of the socket.
// Both addresses are of the socket's family.
type Headers struct {
	Src      netip.Addr
	Dst      netip.AddrPort
	Class    uint8 // TOS in IPv4
	HopLimit uint8 // TTL in IPv4, not 0
	IfIndex  uint32
}

// Reset begins a new run.
func (r *Run) Reset() { r.n = 0 }

// Len returns the number of datagrams.
func (r *Run) Len() int { return r.n }

// Add adds a datagram, which is not empty and must not change until Send has returned.
// There must be fewer than MaxRun.
func (r *Run) Add(p []byte) {
	r.iovs[r.n].Base = &p[0]
	r.iovs[r.n].SetLen(len(p))
	if r.n == 0 {
		r.size = len(p)
	}
	r.n++
}

// Send sends the datagrams by UDP socket fd, and waits while the socket is full. Before it
// waits it calls full, unless that is nil. Either all are sent or, with an error, none. EIO,
// EINVAL and EMSGSIZE are also the kernel's errors if it cannot send a run of this kind on the
// device.
func (r *Run) Send(fd int, h *Headers, full func()) error {
	r.msg.Iov = &r.iovs[0]
	r.msg.SetIovlen(r.n)
	r.msg.Name = (*byte)(unsafe.Pointer(&r.name))
	r.msg.Namelen = putAddr(&r.name, h.Dst.Addr(), h.IfIndex)
	// The port is at the same place in both families.
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&r.name.Port))[:], h.Dst.Port())
	r.msg.Control = &r.ctl[0]
	r.msg.SetControllen(r.control(h))
	_, _, e := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msg)), unix.MSG_DONTWAIT)
	if e == unix.EAGAIN && full != nil {
		full()
	}
	for e == unix.EAGAIN || e == unix.EINTR {
		_, _, e = syscall.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msg)), 0)
	}
	runtime.KeepAlive(r)
	if e != 0 {
		return e
	}
	return nil
}

// control writes the control messages and returns their length.
func (r *Run) control(h *Headers) (n int) {
	if h.Src.Is4() {
		n = r.put(n, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		*(*unix.Inet4Pktinfo)(r.data(n, unix.SizeofInet4Pktinfo)) = unix.Inet4Pktinfo{Ifindex: int32(h.IfIndex), Spec_dst: h.Src.As4()}
		n = r.putInt(n, unix.IPPROTO_IP, unix.IP_TOS, int32(h.Class))
		n = r.putInt(n, unix.IPPROTO_IP, unix.IP_TTL, int32(h.HopLimit))
	} else {
		n = r.put(n, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		*(*unix.Inet6Pktinfo)(r.data(n, unix.SizeofInet6Pktinfo)) = unix.Inet6Pktinfo{Ifindex: h.IfIndex, Addr: h.Src.As16()}
		n = r.putInt(n, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int32(h.Class))
		n = r.putInt(n, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int32(h.HopLimit))
	}
	if r.n > 1 {
		n = r.put(n, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		*(*uint16)(r.data(n, 2)) = uint16(r.size)
	}
	return n
}

// put writes the header of a control message with size bytes of data at n, and returns
// where it ends.
func (r *Run) put(n int, level, kind int32, size int) int {
	c := (*unix.Cmsghdr)(unsafe.Pointer(&r.ctl[n]))
	c.Level, c.Type = level, kind
	c.SetLen(unix.CmsgLen(size))
	return n + unix.CmsgSpace(size)
}

// data returns the data, of size bytes, of the control message that ends at n.
func (r *Run) data(n, size int) unsafe.Pointer {
	return unsafe.Pointer(&r.ctl[n-unix.CmsgSpace(size)+unix.CmsgLen(0)])
}

func (r *Run) putInt(n int, level, kind, v int32) int {
	n = r.put(n, level, kind, 4)
	*(*int32)(r.data(n, 4)) = v
	return n
}

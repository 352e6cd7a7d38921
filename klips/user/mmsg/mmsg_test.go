package mmsg

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/skip"
)

var (
	lo4 = netip.MustParseAddr("127.0.0.1")
	lo6 = netip.IPv6Loopback()
)

// udp opens a UDP socket on the loopback device.
func udp(t *testing.T, addr netip.Addr) (fd int, port uint16) {
	t.Helper()
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if addr.Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: addr.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { unix.Close(fd) })
		err = unix.Bind(fd, sa)
	}
	if addr.Is6() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		skip.Without(t, skip.IPv6, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := got.(type) {
	case *unix.SockaddrInet4:
		port = uint16(sa.Port)
	case *unix.SockaddrInet6:
		port = uint16(sa.Port)
	}
	return fd, port
}

func option(t *testing.T, fd, level, name, value int) {
	t.Helper()
	if err := unix.SetsockoptInt(fd, level, name, value); err != nil {
		t.Fatal(err)
	}
}

// setPort sets the port of a message, which raw sockets do not have. It is at the same
// offset in the addresses of both families.
func (b *Batch) setPort(i int, port uint16) {
	(*[4]byte)(unsafe.Pointer(&b.names[i]))[2] = byte(port >> 8)
	(*[4]byte)(unsafe.Pointer(&b.names[i]))[3] = byte(port)
}

// receive reads n messages from a socket, in as many batches as needed. All have been
// sent.
func receive(t *testing.T, fd, n, size int) (all [][]byte) {
	t.Helper()
	b := NewBatch(4)
	bufs := make([][]byte, b.Len())
	for len(all) < n {
		for i := range bufs {
			bufs[i] = make([]byte, size)
			b.SetRecv(i, bufs[i])
		}
		got, err := b.Recv(fd, b.Len())
		if err != nil || got == 0 {
			t.Fatalf("Recv = %d, %v after %d messages, want %d", got, err, len(all), n)
		}
		for i := range got {
			size, _, _ := b.Received(i)
			all = append(all, bufs[i][:size])
		}
	}
	return all
}

// Messages of any length arrive in order, with their source; a slot is used for a short
// one after a long one, and for one family after the other.
func TestSendAndReceive(t *testing.T) {
	out, in := NewBatch(5), NewBatch(8)
	if out.Len() != 5 {
		t.Errorf("Len = %d, want 5", out.Len())
	}
	for round, size := range []int{900, 1, 300} {
		for _, addr := range []netip.Addr{lo6, lo4} {
			t.Run(fmt.Sprint(addr, " ", size), func(t *testing.T) {
				from, _ := udp(t, addr)
				to, port := udp(t, addr)
				var want [][]byte
				for i := range out.Len() {
					p := bytes.Repeat([]byte{byte(round), byte(i)}, size+i)
					want = append(want, p)
					out.SetSend(i, p, addr, 0)
					out.setPort(i, port)
				}
				if n, err := out.Send(from, 0, 2, nil); n != 2 || err != nil {
					t.Fatalf("Send(0, 2) = %d, %v", n, err)
				}
				if n, err := out.Send(from, 2, 5, nil); n != 3 || err != nil {
					t.Fatalf("Send(2, 5) = %d, %v", n, err)
				}
				bufs := make([][]byte, in.Len())
				for i := range bufs {
					bufs[i] = make([]byte, 4000)
					in.SetRecv(i, bufs[i])
				}
				n, err := in.Recv(to, in.Len())
				if n != len(want) || err != nil {
					t.Fatalf("Recv = %d, %v, want %d", n, err, len(want))
				}
				for i := range n {
					size, src, cut := in.Received(i)
					if !bytes.Equal(bufs[i][:size], want[i]) || src.Addr() != addr || cut {
						t.Errorf("message %d has %d bytes from %v, cut %v; want %d from %v", i, size, src, cut, len(want[i]), addr)
					}
				}
				if n, err := in.Recv(to, in.Len()); n != 0 || err != unix.EAGAIN {
					t.Errorf("Recv from an empty socket = %d, %v, want EAGAIN", n, err)
				}
			})
		}
	}
}

// A message that is longer than its buffer is marked; its neighbours are not.
func TestTruncated(t *testing.T) {
	from, _ := udp(t, lo4)
	to, port := udp(t, lo4)
	out, in := NewBatch(3), NewBatch(3)
	for i, size := range []int{10, 11, 9} {
		out.SetSend(i, make([]byte, size), lo4, 0)
		out.setPort(i, port)
		in.SetRecv(i, make([]byte, 10))
	}
	if n, err := out.Send(from, 0, 3, nil); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := in.Recv(to, 3); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for i, want := range []struct {
		n   int
		cut bool
	}{{10, false}, {10, true}, {9, false}} {
		if n, _, cut := in.Received(i); n != want.n || cut != want.cut {
			t.Errorf("message %d: %d bytes, cut %v, want %d, %v", i, n, cut, want.n, want.cut)
		}
	}
}

// Recv receives at most the requested number; the rest waits.
func TestRecvAtMost(t *testing.T) {
	from, _ := udp(t, lo4)
	to, port := udp(t, lo4)
	out, in := NewBatch(3), NewBatch(3)
	for i := range 3 {
		out.SetSend(i, []byte{byte(i)}, lo4, 0)
		out.setPort(i, port)
		in.SetRecv(i, make([]byte, 10))
	}
	if n, err := out.Send(from, 0, 3, nil); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := in.Recv(to, 2); n != 2 || err != nil {
		t.Errorf("Recv of at most 2 = %d, %v", n, err)
	}
	if n, err := in.Recv(to, 2); n != 1 || err != nil {
		t.Errorf("Recv of the rest = %d, %v", n, err)
	}
}

// The message at fault is the one after those that Send reports as sent; the later ones
// can be sent.
func TestSendError(t *testing.T) {
	for _, addr := range []netip.Addr{lo4, lo6} {
		t.Run(addr.String(), func(t *testing.T) {
			from, _ := udp(t, addr)
			to, port := udp(t, addr)
			b := NewBatch(4)
			for i := range 4 {
				p := []byte{byte(i)}
				if i == 2 {
					p = make([]byte, 1<<16) // more than UDP can carry
				}
				b.SetSend(i, p, addr, 0)
				b.setPort(i, port)
			}
			if n, err := b.Send(from, 0, 4, nil); n != 2 || err != nil {
				t.Fatalf("Send = %d, %v, want the 2 before the one at fault", n, err)
			}
			if n, err := b.Send(from, 2, 4, nil); n != 0 || err != unix.EMSGSIZE {
				t.Fatalf("Send = %d, %v, want EMSGSIZE", n, err)
			}
			if n, err := b.Send(from, 3, 4, nil); n != 1 || err != nil {
				t.Fatalf("Send = %d, %v, want the one behind", n, err)
			}
			all := receive(t, to, 3, 100)
			if !bytes.Equal(bytes.Join(all, nil), []byte{0, 1, 3}) {
				t.Errorf("arrived: %x", all)
			}
		})
	}
}

func TestBadSocket(t *testing.T) {
	b := NewBatch(1)
	b.SetSend(0, []byte{1}, lo4, 0)
	if n, err := b.Send(-1, 0, 1, nil); n != 0 || err != unix.EBADF {
		t.Errorf("Send = %d, %v, want EBADF", n, err)
	}
	b.SetRecv(0, make([]byte, 1))
	if n, err := b.Recv(-1, 1); n != 0 || err != unix.EBADF {
		t.Errorf("Recv = %d, %v, want EBADF", n, err)
	}
}

// Send waits while the socket is full. A pair of local sockets holds few messages.
func TestSendWaits(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	const n = 300
	b := NewBatch(n)
	for i := range n {
		b.SetSend(i, bytes.Repeat([]byte{byte(i)}, 2000), lo4, 0)
		b.hdrs[i].msg.Name, b.hdrs[i].msg.Namelen = nil, 0 // it is connected
	}
	// A send that does not wait sends less than all.
	from, errno := b.send(syscall.RawSyscall6, pair[0], 0, n, unix.MSG_DONTWAIT)
	if from == 0 || from == n || errno != 0 {
		t.Fatalf("%d of %d messages go without waiting, %v", from, n, errno)
	}
	full, done := make(chan bool, n), make(chan error, 1)
	go func() {
		for from < n {
			sent, err := b.Send(pair[0], from, n, func() { full <- true })
			if err != nil || sent == 0 {
				done <- fmt.Errorf("Send = %d, %w after %d messages", sent, err, from)
				unix.Shutdown(pair[0], unix.SHUT_RDWR)
				return
			}
			from += sent
		}
		done <- nil
	}()
	buf := make([]byte, 4000)
	<-full // it is called before Send waits
	for i := range n {
		got, err := unix.Read(pair[1], buf)
		if err != nil || got != 2000 || buf[0] != byte(i) || buf[1999] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, got, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The control messages of raw sockets.
func TestInfo(t *testing.T) {
	ifi, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("IPv4", func(t *testing.T) {
		from, _ := udp(t, lo4)
		to, port := udp(t, lo4)
		for _, name := range []int{unix.IP_PKTINFO, unix.IP_RECVTTL, unix.IP_RECVTOS} {
			option(t, to, unix.IPPROTO_IP, name, 1)
		}
		option(t, from, unix.IPPROTO_IP, unix.IP_TTL, 77)
		option(t, from, unix.IPPROTO_IP, unix.IP_TOS, 0xb8)
		want := Info{IfIndex: uint32(ifi.Index), Dst: lo4, HopLimit: 77, Class: 0xb8}
		if got := infoOf(t, from, to, lo4, port); !reflect.DeepEqual(got, want) {
			t.Errorf("Info = %+v, want %+v", got, want)
		}
	})
	t.Run("IPv6", func(t *testing.T) {
		from, _ := udp(t, lo6)
		to, port := udp(t, lo6)
		for _, name := range []int{unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT, unix.IPV6_RECVTCLASS, FlowInfo,
			unix.IPV6_RECVHOPOPTS, unix.IPV6_RECVDSTOPTS, unix.IPV6_RECVRTHDR} {
			option(t, to, unix.IPPROTO_IPV6, name, 1)
		}
		// Padding alone, RFC 8200 section 4.2.
		opts := []byte{0, 0, 1, 4, 0, 0, 0, 0}
		if err := unix.SetsockoptString(from, unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, string(opts)); err != nil {
			t.Fatal(err)
		}
		option(t, from, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 77)
		option(t, from, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0xb8)
		opts[0] = unix.IPPROTO_UDP
		want := Info{IfIndex: uint32(ifi.Index), Dst: lo6, HopLimit: 77, Class: 0xb8, First: unix.IPPROTO_DSTOPTS, Ext: opts}
		got := infoOf(t, from, to, lo6, port)
		got.Label = 0 // the kernel may choose one
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Info = %+v, want %+v", got, want)
		}
	})
	t.Run("none", func(t *testing.T) {
		from, _ := udp(t, lo4)
		to, port := udp(t, lo4)
		if got := infoOf(t, from, to, lo4, port); !reflect.DeepEqual(got, Info{}) {
			t.Errorf("Info = %+v, want none", got)
		}
	})
}

// infoOf sends a message and returns the content of its control messages. The slot has
// had others before.
func infoOf(t *testing.T, from, to int, addr netip.Addr, port uint16) Info {
	t.Helper()
	out, in := NewBatch(1), NewBatch(1)
	for i := range in.ctl[0] {
		in.ctl[0][i] = 0x29
	}
	out.SetSend(0, []byte("x"), addr, 0)
	out.setPort(0, port)
	in.SetRecv(0, make([]byte, 10))
	if n, err := out.Send(from, 0, 1, nil); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := in.Recv(to, 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	return in.Info(0)
}

// Only link-local destinations have a zone.
func TestZone(t *testing.T) {
	b := NewBatch(1)
	for addr, want := range map[string]uint32{"fe80::1": 7, "ff02::1": 7, "ff05::1": 0, "2001:db8::1": 0, "::1": 0} {
		b.SetSend(0, []byte{1}, netip.MustParseAddr(addr), 7)
		if got := b.names[0].Scope_id; got != want || b.hdrs[0].msg.Namelen != unix.SizeofSockaddrInet6 {
			t.Errorf("%s has the zone %d, want %d", addr, got, want)
		}
	}
	b.SetSend(0, []byte{1}, lo4, 7)
	if b.hdrs[0].msg.Namelen != unix.SizeofSockaddrInet4 || b.names[0].Family != unix.AF_INET {
		t.Errorf("an IPv4 destination has family %d and length %d", b.names[0].Family, b.hdrs[0].msg.Namelen)
	}
}

func TestAllocations(t *testing.T) {
	from, _ := udp(t, lo4)
	to, port := udp(t, lo4)
	option(t, to, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	out, in, p := NewBatch(2), NewBatch(2), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		for i := range 2 {
			out.SetSend(i, p, lo4, 0)
			out.setPort(i, port)
			in.SetRecv(i, p)
		}
		if n, err := out.Send(from, 0, 2, nil); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := in.Recv(to, 2); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		in.Received(1)
		in.Info(1)
	}); n != 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

// FuzzInfo reads control messages of any bytes.
func FuzzInfo(f *testing.F) {
	cmsg := func(level, typ int32, data ...byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		h.SetLen(unix.CmsgLen(len(data)))
		h.Level, h.Type = level, typ
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	pktinfo4, pktinfo6 := make([]byte, unix.SizeofInet4Pktinfo), make([]byte, unix.SizeofInet6Pktinfo)
	pktinfo4[0], pktinfo6[16] = 3, 3
	f.Add(cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4...), uint16(controlSize))
	f.Add(append(cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6...), cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 64, 0, 0, 0)...), uint16(60))
	f.Add(cmsg(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 1, 0, 0, 0), uint16(19))
	f.Add(append(cmsg(unix.IPPROTO_IP, unix.IP_TOS, 1), cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, 0, 5, 0, 0)...), uint16(60))
	f.Add(append(cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, 60, 0, 1, 4, 0, 0, 0, 0), cmsg(unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, 50, 0, 1, 4, 0, 0, 0, 0)...), uint16(60))
	f.Fuzz(func(t *testing.T, ctl []byte, n uint16) {
		b := NewBatch(2)
		b.SetRecv(0, make([]byte, 1))
		copy(b.ctl[0][:], ctl)
		b.hdrs[0].msg.SetControllen(int(n))
		b.ctl[1] = [controlSize]byte{0: 0xff} // bytes after the end are not read
		in := b.Info(0)
		if in.Segment < 0 || len(in.Ext) > controlSize || in.Ext == nil && in.First != 0 {
			t.Errorf("Info = %+v", in)
		}
		if len(ctl) == 0 && !reflect.DeepEqual(in, Info{}) {
			t.Errorf("Info = %+v of zeros", in)
		}
	})
}

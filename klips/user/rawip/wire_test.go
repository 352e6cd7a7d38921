package rawip_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/rawip"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	_ = lab.Enter() // as an ordinary user, in a user namespace
	os.Exit(m.Run())
}

// patience is how long a test waits for an expected event. Only a fault takes so long.
const patience = time.Minute

// Addresses of two hosts on one cable.
var (
	here4, there4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	here6, there6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

// A line is a sender on one host and a receiver on another.
type line struct {
	t           *testing.T
	here, there *lab.Host
	ports       *rawip.Ports // of the sender's host
	out         *rawip.Sender
	in          *rawip.Receiver
	index       int // of the device that packets come in by
	bufs        []*packet.Buffer
	ifindex     []int
}

// ours reports whether an address is one of the two hosts.
func ours(a netip.Addr) bool { return a == here4 || a == here6 || a == there4 || a == there6 }

// newLine makes two hosts with a cable.
func newLine(t *testing.T) *line {
	t.Helper()
	l := &line{t: t, ports: rawip.NewPorts(ours), ifindex: make([]int, 8)}
	t.Cleanup(l.ports.Close)
	for name, h := range map[string]**lab.Host{"here": &l.here, "there": &l.there} {
		var err error
		if *h, err = lab.NewHost(name); err != nil {
			if errors.Is(err, os.ErrPermission) {
				skip.Without(t, skip.Root, err)
			}
			t.Fatal(err)
		}
		t.Cleanup(func() { (*h).Close() })
	}
	l.must(lab.Cable(l.here, "eth0", l.there, "eth0"))
	for a, h := range map[netip.Addr]*lab.Host{here4: l.here, here6: l.here, there4: l.there, there6: l.there} {
		l.must(h.AddAddr("eth0", netip.PrefixFrom(a, a.BitLen()-8)))
	}
	l.must(l.here.Do(func() (err error) {
		l.out, err = rawip.NewSender(l.ports, "eth0", 4)
		return err
	}))
	t.Cleanup(func() { l.out.Close() })
	l.must(l.there.Do(func() (err error) {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			l.index = ifi.Index
			l.in, err = rawip.NewReceiver(rawip.NewPorts(ours), 8)
		}
		return err
	}))
	t.Cleanup(l.in.Release)
	for range l.ifindex {
		l.bufs = append(l.bufs, &packet.Buffer{B: make([]byte, packet.Headroom+0x10000+packet.Tailroom)})
	}
	return l
}

func (l *line) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// send sends packets, and returns the numbers of those that failed.
func (l *line) send(pkts ...[]byte) (failed []int) {
	var bufs []*packet.Buffer
	at := map[*packet.Buffer]int{}
	for i, p := range pkts {
		b := &packet.Buffer{B: bytes.Clone(p), End: len(p)}
		bufs, at[b] = append(bufs, b), i
	}
	l.out.Send(bufs, func(b *packet.Buffer, err error) {
		if err != unix.EMSGSIZE {
			l.t.Errorf("packet %d: %v", at[b], err)
		}
		failed = append(failed, at[b])
	}, nil)
	return failed
}

// receive returns packets up to n, or up to one that ends with last.
func (l *line) receive(n int, last string) (pkts [][]byte) {
	l.t.Helper()
	timer := time.AfterFunc(patience, func() { l.in.Close() })
	defer timer.Stop()
	for len(pkts) < n {
		got, err := l.in.Recv(l.bufs, l.ifindex)
		if err != nil {
			l.t.Fatalf("after %d packets, of which the last is %x: %v", len(pkts), pkts, err)
		}
		for i, b := range l.bufs[:got] {
			if l.ifindex[i] != l.index {
				l.t.Errorf("a packet came in by %d, want %d", l.ifindex[i], l.index)
			}
			p := bytes.Clone(b.Bytes())
			pkts = append(pkts, p)
			if last != "" && bytes.HasSuffix(p, []byte(last)) {
				return pkts
			}
		}
	}
	return pkts
}

// ip makes a packet from one host to the other.
func ip(v6 bool, proto uint8, payload string) []byte {
	var p []byte
	if v6 {
		p = make([]byte, 40)
		p[0], p[1], p[6], p[7] = 0x62, 0x80, proto, 33 // traffic class 0x28
		copy(p[8:], here6.AsSlice())
		copy(p[24:], there6.AsSlice())
	} else {
		p = make([]byte, 20)
		p[0], p[1], p[8], p[9] = 0x45, 0x28, 33, proto
		binary.BigEndian.PutUint16(p[4:], 0x1234)
		copy(p[12:], here4.AsSlice())
		copy(p[16:], there4.AsSlice())
	}
	p = append(p, payload...)
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	if v6 && proto == packet.ProtoUDP {
		// Over IPv6 it must have a checksum (RFC 8200 section 8.1).
		var sum uint32
		for _, b := range [][]byte{p[8:40], p[40:], {byte(len(payload) >> 8), byte(len(payload)), 0, proto}} {
			for i := range b {
				sum += uint32(b[i]) << (8 * (1 - i&1))
			}
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(p[46:], ^uint16(sum))
	}
	return p
}

func udp(port uint16, payload string) string {
	h := []byte{0x11, 0x94, byte(port >> 8), byte(port), 0, byte(8 + len(payload)), 0, 0}
	return string(h) + payload
}

// Packets of both families and protocols arrive complete, with their original header
// and the device that they arrived on.
func TestOnTheWire(t *testing.T) {
	l := newLine(t)
	if l.out.Name() != "eth0" || l.out.MTU() != 1500 {
		t.Errorf("the sender has device %s with MTU %d", l.out.Name(), l.out.MTU())
	}
	var want [][]byte
	for i, proto := range []uint8{50, 50, 51, 50, 51, 51, 50, 51} {
		want = append(want, ip(i%3 == 0, proto, fmt.Sprintf("packet %d of ESP or AH", i)))
	}
	large := ip(false, 50, strings.Repeat("x", 1481))
	if failed := l.send(append(append(want[:len(want):len(want)], large), want[0])...); len(failed) != 1 || failed[0] != len(want) {
		t.Errorf("packets %v failed, want the large one", failed)
	}
	want = append(want, want[0])
	for _, p := range l.receive(len(want), "") {
		i := -1
		for k := range want {
			if bytes.Equal(p, want[k]) {
				i = k
			}
		}
		if i < 0 {
			t.Fatalf("%x arrived", p)
		}
		want = append(want[:i], want[i+1:]...)
	}
}

// A fragmented packet arrives reassembled.
func TestReassembled(t *testing.T) {
	l := newLine(t)
	whole := ip(false, 50, strings.Repeat("0123456789abcdef", 100))
	var frags [][]byte
	for off := 0; off < 1600; off += 800 {
		f := ip(false, 50, string(whole[20+off:20+off+800]))
		binary.BigEndian.PutUint16(f[6:], uint16(off/8))
		if off == 0 {
			f[6] |= 0x20 // more fragments
		}
		packet.FixChecksum(f)
		frags = append(frags, f)
	}
	if failed := l.send(frags...); failed != nil {
		t.Fatalf("packets %v failed", failed)
	}
	if got := l.receive(1, "")[0]; !bytes.Equal(got, whole) {
		t.Errorf("%x arrived, want %x", got, whole)
	}
}

// A packet arrives with the extension headers and the flow label that it was sent with.
func TestExtensionHeaders(t *testing.T) {
	l := newLine(t)
	const hop, dst, routing = packet.ProtoHopByHop, packet.ProtoDstOpts, packet.ProtoRouting
	// opts has an option that nobody knows and all skip, with data, and padding.
	opts := func(next uint8, data byte) string {
		return string([]byte{next, 1, 0x1e, 6, data, data, data, data, data, data, 1, 4, 0, 0, 0, 0})
	}
	done := func(next uint8) string { // a route that has come to its end
		return string([]byte{next, 2, 0, 0, 0, 0, 0, 0}) + string(here6.AsSlice())
	}
	for _, proto := range []uint8{packet.ProtoESP, packet.ProtoAH} {
		for _, c := range []struct {
			name  string
			first uint8
			ext   string
		}{
			{"none", proto, ""},
			{"hop by hop", hop, opts(proto, 1)},
			{"destination", dst, opts(proto, 2)},
			{"routing", routing, done(proto)},
			{"all", hop, opts(dst, 3) + opts(routing, 4) + done(dst) + opts(proto, 5)},
			{"long", dst, string([]byte{proto, 50, 0x1e, 255}) + strings.Repeat("x", 255) + "\x1e\x93" + strings.Repeat("y", 0x93)},
		} {
			p := ip(true, c.first, c.ext+c.name+" and the end")
			p[1], p[2], p[3] = p[1]|0xa, 0xbc, 0xde
			l.send(p)
			if got := l.receive(1, ""); !bytes.Equal(got[0], p) {
				t.Errorf("%s, protocol %d:\n%x arrived, want\n%x", c.name, proto, got[0], p)
			}
		}
	}
}

// UDP packets arrive only for the given ports. Each of these is bound, unless another
// socket is, which still gets its packets.
func TestUDPPorts(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", v6), func(t *testing.T) {
			l := newLine(t)
			addr := netip.IPv4Unspecified()
			if v6 {
				addr = netip.IPv6Unspecified()
			}
			bind := func(port uint16) (c *net.UDPConn, err error) {
				err = l.there.Do(func() error {
					c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
					return err
				})
				return c, err
			}
			set := func(ports ...uint16) {
				l.must(l.there.Do(func() error { l.in.SetUDPPorts(ports); return nil }))
			}
			owner, err := bind(4501)
			l.must(err)
			defer owner.Close()
			l.send(ip(v6, 17, udp(4500, "nobody asked")))
			set(4500, 4501)
			l.send(ip(v6, 17, udp(4502, "for another port")), ip(v6, 17, udp(4501, "for the owner too")), ip(v6, 17, udp(4500, "the last")))
			got := l.receive(3, "the last")
			if len(got) != 2 || !bytes.HasSuffix(got[0], []byte("for the owner too")) {
				t.Errorf("arrived: %q", got)
			}
			buf := make([]byte, 100)
			_ = owner.SetReadDeadline(time.Now().Add(patience))
			if n, err := owner.Read(buf); err != nil || string(buf[:n]) != "for the owner too" {
				t.Errorf("the owner of the port reads %q, %v", buf[:n], err)
			}
			if c, err := bind(4500); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("a port that is asked for can be taken: %v, %v", c, err)
			}
			set()
			c, err := bind(4500)
			if err != nil {
				t.Fatalf("a port that is no longer asked for: %v", err)
			}
			c.Close()
			// Recv reads the sockets in turn: after three rounds it has read them all.
			l.send(ip(v6, 17, udp(4500, "no longer")))
			for range 3 {
				l.send(ip(v6, 50, "the next"))
				if got := l.receive(2, "the next"); len(got) != 1 {
					t.Errorf("arrived: %q", got)
				}
			}
		})
	}
}

// A host answers packets of a protocol without a receiver, unless Quiet stops that.
func TestQuiet(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", v6), func(t *testing.T) {
			l := newLine(t)
			network := "ip4:icmp"
			if v6 {
				network = "ip6:ipv6-icmp"
			}
			var errs net.PacketConn
			l.must(l.here.Do(func() (err error) {
				errs, err = net.ListenPacket(network, "")
				return err
			}))
			defer errs.Close()
			_ = errs.SetReadDeadline(time.Now().Add(patience))
			// answered returns the text of the next quoted packet.
			answered := func() string {
				b := make([]byte, 2000)
				for {
					n, _, err := errs.ReadFrom(b)
					if err != nil {
						t.Fatal(err)
					}
					if _, text, ok := bytes.Cut(b[:n], []byte("text ")); ok {
						return string(text)
					}
				}
			}
			l.send(ip(v6, 200, "text one"))
			if got := answered(); got != "one" {
				t.Errorf("the answer is to %q", got)
			}
			var quiet int
			l.must(l.there.Do(func() (err error) {
				quiet, err = rawip.Quiet("eth0", 200, v6)
				return err
			}))
			l.send(ip(v6, 200, "text two"), ip(v6, 201, "text three"))
			if got := answered(); got != "three" {
				t.Errorf("with protocol 200 quiet the answer is to %q", got)
			}
			unix.Close(quiet)
			l.send(ip(v6, 200, "text four"))
			if got := answered(); got != "four" {
				t.Errorf("when it is closed the answer is to %q", got)
			}
		})
	}
}

func TestClose(t *testing.T) {
	l := newLine(t)
	ended := make(chan error)
	go func() {
		_, err := l.in.Recv(l.bufs, l.ifindex)
		ended <- err
	}()
	for range 2 {
		if err := l.in.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != os.ErrClosed {
		t.Errorf("Recv = %v, want os.ErrClosed", err)
	}
	if _, err := l.in.Recv(l.bufs, l.ifindex); err != os.ErrClosed {
		t.Errorf("Recv = %v, want os.ErrClosed", err)
	}
}

func TestNoSuchDevice(t *testing.T) {
	if _, err := rawip.NewSender(rawip.NewPorts(ours), "nosuch0", 1); err != unix.ENXIO {
		t.Errorf("NewSender = %v, want ENXIO", err)
	}
}

// Packets that arrive after one receiver is closed and before the next one is opened
// reach the next one, if it inherits the sockets. A UDP port stays bound.
func TestInherit(t *testing.T) {
	l := newLine(t)
	const port = 4500
	l.must(l.there.Do(func() error { l.in.SetUDPPorts([]uint16{port}); return nil }))
	l.send(ip(false, packet.ProtoESP, "ESP of before"))
	if got := l.receive(1, ""); !bytes.HasSuffix(got[0], []byte("ESP of before")) {
		t.Errorf("received %x", got[0])
	}
	fds, err := l.in.Sockets()
	l.must(err)
	l.in.Close()
	l.in.Release()
	var want []string
	for _, v6 := range []bool{false, true} {
		for _, proto := range []uint8{packet.ProtoESP, packet.ProtoAH} {
			text := fmt.Sprintf("meanwhile %v %d", v6, proto)
			want = append(want, text)
			l.send(ip(v6, proto, text))
		}
	}
	l.must(l.there.Do(func() (err error) {
		if c, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port)); err == nil {
			c.Close()
			t.Error("the port is free")
		}
		l.in, err = rawip.NewReceiver(rawip.NewPorts(ours), 8, fds...)
		return err
	}))
	t.Cleanup(l.in.Release)
	got := l.receive(len(want), "")
	for _, text := range want {
		found := false
		for _, p := range got {
			found = found || bytes.HasSuffix(p, []byte(text))
		}
		if !found {
			t.Errorf("%s is not received", text)
		}
	}
	l.must(l.there.Do(func() error {
		l.in.SetUDPPorts(nil)
		c, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		if err == nil {
			err = c.Close()
		}
		return err
	}))
}

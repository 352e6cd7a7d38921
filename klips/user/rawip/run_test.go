package rawip_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

const natt = 4500

// portsOn opens a receiver on the sender's host, which has the port 4500, and that port
// on the other host.
func (l *line) portsOn() {
	l.t.Helper()
	l.must(l.here.Do(func() error {
		r, err := rawip.NewReceiver(l.ports, 1)
		if err == nil {
			l.t.Cleanup(r.Release)
			r.SetUDPPorts([]uint16{natt})
		}
		return err
	}))
	l.must(l.there.Do(func() error { l.in.SetUDPPorts([]uint16{natt}); return nil }))
}

// number is the number of the last packet.
var number uint32

// fromPort makes an ESP packet with data in a UDP packet from port 4500 to port 4500. Each
// has the next number.
func fromPort(v6 bool, data string) []byte {
	number++
	data = string(binary.BigEndian.AppendUint32([]byte{0, 0, 1, 2}, number)) + data
	h := []byte{natt >> 8, natt & 0xff, natt >> 8, natt & 0xff, byte((8 + len(data)) >> 8), byte(8 + len(data)), 0, 0}
	return ip(v6, packet.ProtoUDP, string(h)+data)
}

// summed returns a packet without what the kernel chooses or has checked: the checksums
// and the IPv4 identification.
func summed(p []byte) string {
	p = bytes.Clone(p)
	if p[0]>>4 == 4 {
		copy(p[4:6], []byte{0, 0})
		packet.FixChecksum(p)
		copy(p[26:28], []byte{0, 0})
	} else {
		copy(p[46:48], []byte{0, 0})
	}
	return string(p)
}

// UDP packets from a port of ours arrive as they were sent and in order, whether the
// kernel sends them one by one or in a run.
func TestRuns(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", v6), func(t *testing.T) {
			l := newLine(t)
			l.portsOn()
			var pkts [][]byte
			add := func(n int, change func(p []byte)) {
				p := fromPort(v6, string(bytes.Repeat([]byte{'0' + byte(len(pkts))}, n)))
				change(p)
				packet.FixChecksum(p)
				pkts = append(pkts, p)
			}
			same := func([]byte) {}
			for _, n := range []int{1000, 1000, 1000, 999, 1000, 1001, 9, 1400, 1400} {
				add(n, same)
			}
			class := func(p []byte) { p[1] ^= 0x10 } // another DSCP
			if v6 {
				class = func(p []byte) { p[0] ^= 1 }
			}
			add(1400, class)
			add(1400, class)
			add(1400, func(p []byte) { // another TTL or hop limit
				if v6 {
					p[7]--
				} else {
					p[8]--
				}
			})
			for range 150 { // more than a run, and more bytes than a packet
				add(1400, same)
			}
			if failed := l.send(pkts...); failed != nil {
				t.Errorf("packets %v failed", failed)
			}
			for i, got := range l.receive(len(pkts), "") {
				if summed(got) != summed(pkts[i]) {
					t.Fatalf("packet %d is\n%x, want\n%x", i, got[:60], pkts[i][:60])
				}
			}
		})
	}
}

// A receiver whose port another program holds gets a run as one packet from a virtual
// device, and takes it apart.
func TestRunsOfOthersPort(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", v6), func(t *testing.T) {
			l := newLine(t)
			var owner net.PacketConn
			l.must(l.there.Do(func() (err error) {
				owner, err = net.ListenPacket("udp", fmt.Sprintf(":%d", natt))
				return err
			}))
			defer owner.Close()
			l.portsOn()
			var pkts [][]byte
			for i := range 150 {
				pkts = append(pkts, fromPort(v6, strings.Repeat("x", 1400-i%40/39)))
			}
			if failed := l.send(pkts...); failed != nil {
				t.Errorf("packets %v failed", failed)
			}
			for i, got := range l.receive(len(pkts), "") {
				if summed(got) != summed(pkts[i]) {
					t.Fatalf("packet %d is\n%x, want\n%x", i, got[:60], pkts[i][:60])
				}
			}
		})
	}
}

// What a UDP socket cannot send as it is, a raw socket sends, and the order is kept.
func TestNoRun(t *testing.T) {
	l := newLine(t)
	l.portsOn()
	df := fromPort(false, "with DF")
	df[6] |= 0x40
	foreign := fromPort(false, "from an address of another host")
	foreign[15] = 77
	label := fromPort(true, "with a flow label")
	label[3] = 9
	var pkts [][]byte
	for i, p := range [][]byte{df, label, ip(false, packet.ProtoESP, "ESP"), foreign} {
		for k := range 5 {
			pkts = append(pkts, fromPort(i%2 == 0, fmt.Sprint("run ", i, k)))
		}
		pkts = append(pkts, p, p, p, p, p)
	}
	for _, p := range pkts {
		packet.FixChecksum(p)
	}
	if failed := l.send(pkts...); failed != nil {
		t.Errorf("packets %v failed", failed)
	}
	want := map[string]int{}
	for _, p := range pkts {
		want[string(text(p))]++
	}
	for _, p := range l.receive(len(pkts), "") {
		if want[string(text(p))]--; want[string(text(p))] < 0 {
			t.Errorf("%x arrived", p)
		}
	}
}

// text returns the data of a packet.
func text(p []byte) []byte {
	n := 20
	if p[0]>>4 == 6 {
		n = 40
	}
	if p[0] == 0x45 && p[9] == packet.ProtoUDP || n == 40 && p[6] == packet.ProtoUDP {
		n += 8
	}
	return p[n:]
}

// When the device has a smaller MTU than the sender knows, the packets fail one by one;
// those that fit are sent.
func TestRunTooLong(t *testing.T) {
	l := newLine(t)
	l.portsOn()
	l.must(l.here.Do(func() error { return setMTU("eth0", 1300) }))
	var pkts [][]byte
	for i := range 6 {
		pkts = append(pkts, fromPort(false, string(bytes.Repeat([]byte{'a' + byte(i)}, 1400-200*(i/5)))))
	}
	if failed := l.send(pkts...); len(failed) != 5 {
		t.Errorf("packets %v failed, want all but the last", failed)
	}
	if got := l.receive(1, "")[0]; len(got) != len(pkts[5]) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

func setMTU(name string, mtu int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr)
}

// A message of another program arrives as the datagrams that it was sent as: a keepalive
// and IKE beside ESP, in one message.
func TestOthersDatagrams(t *testing.T) {
	l := newLine(t)
	l.portsOn()
	var c *net.UDPConn
	l.must(l.here.Do(func() (err error) {
		c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(there4, natt)))
		return err
	}))
	defer c.Close()
	sizes := []int{1, 20, 1400, 1400, 3, 1}
	for i, n := range sizes {
		if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	port := uint16(c.LocalAddr().(*net.UDPAddr).Port)
	for i, p := range l.receive(len(sizes), "") {
		if len(text(p)) != sizes[i] || binary.BigEndian.Uint16(p[20:]) != port || !bytes.Equal(p[12:16], here4.AsSlice()) {
			t.Errorf("datagram %d is %x", i, p)
		}
	}
}

// A port is free as soon as it is not wanted any more, although nobody reads and a sender
// has used it; packets from it are then sent by the raw socket.
func TestPortEnds(t *testing.T) {
	l := newLine(t)
	l.portsOn()
	var want [][]byte
	send := func(text string) {
		t.Helper()
		var pkts [][]byte
		for range 4 {
			pkts = append(pkts, fromPort(false, text))
		}
		want = append(want, pkts...)
		if failed := l.send(pkts...); failed != nil {
			t.Errorf("packets %v failed", failed)
		}
	}
	send("by the port")
	l.ports.Close()
	l.must(l.here.Do(func() error {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: natt})
		if err == nil {
			err = c.Close()
		}
		return err
	}))
	send("by the raw socket")
	for i, got := range l.receive(len(want), "") {
		if !bytes.Equal(text(got), text(want[i])) {
			t.Errorf("packet %d is %q", i, text(got))
		}
	}
}

// Runs and single packets are sent and received without an allocation.
func TestRunsAllocate(t *testing.T) {
	l := newLine(t)
	l.portsOn()
	var bufs []*packet.Buffer
	add := func(p []byte) { bufs = append(bufs, &packet.Buffer{B: p, End: len(p)}) }
	for i := range 100 {
		add(fromPort(i >= 50, strings.Repeat("x", 1300)))
	}
	add(ip(false, packet.ProtoESP, "ESP"))
	fail := func(_ *packet.Buffer, err error) { t.Error(err) }
	timer := time.AfterFunc(patience, func() { l.in.Close() })
	defer timer.Stop()
	l.in.SetUDPPorts([]uint16{natt})
	pass := func() {
		l.out.Send(bufs, fail, nil)
		for n := 0; n < len(bufs); {
			got, err := l.in.Recv(l.bufs, l.ifindex)
			if err != nil {
				t.Fatal(err)
			}
			n += got
		}
	}
	pass()
	if n := testing.AllocsPerRun(20, pass); n != 0 {
		t.Errorf("%v allocations for %d packets", n, len(bufs))
	}
}

// Several goroutines send by one sender at the same time. The packets of each arrive in
// their order: those of raw sockets, and those of runs.
func TestSendTogether(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", v6), func(t *testing.T) {
			l := newLine(t)
			l.portsOn()
			// The kernel drops packets of a burst while it asks for the neighbour.
			l.send(ip(v6, packet.ProtoESP, "first"))
			l.receive(1, "")
			const senders, batches, each = 4, 10, 8
			mark := func(sender, n int) string { return fmt.Sprintf("sender %d packet %03d.", sender, n) }
			var all sync.WaitGroup
			for i := range senders {
				var pkts [][]byte
				for n := range batches * each {
					if i%2 == 0 {
						pkts = append(pkts, ip(v6, packet.ProtoESP, mark(i, n)))
					} else {
						pkts = append(pkts, fromPort(v6, mark(i, n)))
					}
				}
				all.Go(func() {
					for pkts := range slices.Chunk(pkts, each) {
						if failed := l.send(pkts...); failed != nil {
							t.Errorf("packets %v of sender %d failed", failed, i)
						}
					}
				})
			}
			all.Wait()
			var next [senders]int
			for _, p := range l.receive(senders*batches*each, "") {
				text := string(p[bytes.Index(p, []byte("sender ")):])
				i := int(text[len("sender ")] - '0')
				if want := mark(i, next[i]); text != want {
					t.Fatalf("%q arrived, want %q", text, want)
				}
				next[i]++
			}
		})
	}
}

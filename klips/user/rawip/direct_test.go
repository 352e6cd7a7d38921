package rawip_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/nexthop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// A direct line has a sender that sends past the kernel's IP output, and a record of what
// the sender's host has sent. Packets that go directly are not in it: no program of the
// host sees them.
type direct struct {
	*line
	index  int // of the sender's device
	hops   *nexthop.Table
	kernel *neighbours
	now    int64
	record *lab.Capture
	seen   int // frames of the record that were read
}

// neighbours answers for the kernel: the peer is the next hop of all of its addresses.
type neighbours struct{ link [6]byte }

func (n *neighbours) NextHop(_ context.Context, to netip.Addr, _ int) (netip.Addr, error) {
	return to, nil
}

func (n *neighbours) Neighbour(_ context.Context, device int, addr netip.Addr) (rtnl.Neighbour, error) {
	known := addr == there4 || addr == there6
	return rtnl.Neighbour{Device: device, Addr: addr, Link: n.link, Usable: known}, nil
}

func (n *neighbours) Close() error { return nil }

func newDirect(t *testing.T) *direct {
	t.Helper()
	d := &direct{line: newLine(t), kernel: &neighbours{}}
	d.must(d.there.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			copy(d.kernel.link[:], ifi.HardwareAddr)
		}
		return err
	}))
	d.index = d.out.Index()
	d.hops = nexthop.New(d.kernel, d.index)
	t.Cleanup(d.hops.Close)
	d.must(d.here.Do(func() error { return d.out.Direct(d.hops, func() int64 { return d.now }) }))
	var err error
	d.record, err = d.here.Capture("eth0", nil)
	d.must(err)
	t.Cleanup(d.record.Stop)
	for _, a := range []netip.Addr{there4, there6} {
		d.know(a)
	}
	return d
}

// know waits until the hop of an address is known.
func (d *direct) know(a netip.Addr) {
	d.t.Helper()
	d.must(lab.Await(func() bool { return d.hops.Find(a) != nil }))
}

// sealed makes packets that an SA has made.
func sealed(pkts ...[]byte) (l []*packet.Buffer) {
	for _, p := range pkts {
		l = append(l, &packet.Buffer{B: bytes.Clone(p), End: len(p), Sealed: true})
	}
	return l
}

// raw returns the packets to the peer that have gone by the kernel's IP output since the
// last call.
func (d *direct) raw() (l [][]byte) {
	d.t.Helper()
	frames, err := d.record.Frames()
	d.must(err)
	for _, f := range frames[d.seen:] {
		p := f.Data[14:]
		h, ok := packet.ParseIP(p)
		if ok && f.Out && (h.Dst == there4 || h.Dst == there6) && h.Proto != packet.ProtoICMP && h.Proto != packet.ProtoICMPv6 {
			l = append(l, p)
		}
	}
	d.seen = len(frames)
	return l
}

func (d *direct) mustSend(pkts ...*packet.Buffer) {
	d.t.Helper()
	d.out.Send(pkts, func(b *packet.Buffer, err error) { d.t.Errorf("%x: %v", b.Bytes(), err) }, nil)
}

// arrive checks that packets arrive, in any order of the protocols, but in order within
// each.
func (d *direct) arrive(want ...[]byte) {
	d.t.Helper()
	kind := func(p []byte) [2]byte {
		if p[0]>>4 == 6 {
			return [2]byte{6, p[6]}
		}
		return [2]byte{4, p[9]}
	}
	wanted := map[[2]byte][][]byte{}
	for _, p := range want {
		wanted[kind(p)] = append(wanted[kind(p)], p)
	}
	for _, p := range d.receive(len(want), "") {
		k := kind(p)
		if len(wanted[k]) == 0 || !bytes.Equal(wanted[k][0], p) {
			d.t.Fatalf("%x arrived, want one of %x", p, wanted[k])
		}
		wanted[k] = wanted[k][1:]
	}
}

// Packets that an SA has made arrive as the raw socket sends them, of both families and
// protocols, in their order, and past the IP output.
func TestDirect(t *testing.T) {
	d := newDirect(t)
	for round := range 2 {
		var want [][]byte
		for i := range 7 { // more than fit into a batch
			want = append(want, ip(i%3 == 1, []uint8{50, 51}[i/3%2], fmt.Sprintf("packet %d of round %d", i, round)))
		}
		given := slices.Clone(want)
		given[0] = bytes.Clone(want[0])
		given[0][10], given[0][11] = 0xde, 0xad // the checksum is filled in
		pkts := sealed(given...)
		for _, b := range pkts {
			b.Sealed = round == 0
		}
		d.mustSend(pkts...)
		d.arrive(want...)
		by := d.raw()
		switch {
		case round == 0 && len(by) > 0:
			t.Errorf("%d packets have gone by the IP output: %x", len(by), by)
		case round == 1 && len(by) != len(want):
			t.Errorf("of %d packets in clear %d have gone by the IP output", len(want), len(by))
		}
	}
}

// Other protocols, and destinations whose next hop is not known, go by the raw socket,
// between those that go directly. Fragments go directly.
func TestDirectOrNot(t *testing.T) {
	d := newDirect(t)
	far := ip(false, 50, "to another host")
	copy(far[16:], netip.MustParseAddr("192.0.2.77").AsSlice())
	packet.FixChecksum(far)
	tunnel := ip(false, 4, string(ip(false, 6, "inside of a tunnel without encryption")))
	first := ip(false, 50, "the first one")
	last := ip(false, 51, "the last one")
	d.mustSend(sealed(first, tunnel, far, last)...)
	d.arrive(first, last)
	if by := d.raw(); len(by) != 1 || !bytes.Equal(by[0], tunnel) {
		t.Errorf("by the IP output: %x, want %x", by, tunnel)
	}

	for _, v6 := range []bool{false, true} {
		whole := ip(v6, 50, strings.Repeat("0123456789abcdef", 100))
		head := 20
		if v6 {
			head = 40
		}
		var pieces [][]byte
		for off := 0; off < 1600; off += 800 {
			var p []byte
			if v6 {
				f := []byte{50, 0, 0, 0, 1, 2, 3, 4}
				binary.BigEndian.PutUint16(f[2:], uint16(off))
				if off == 0 {
					f[3] |= 1 // more fragments
				}
				p = ip(true, packet.ProtoFragment, string(f)+string(whole[head+off:head+off+800]))
			} else {
				p = ip(false, 50, string(whole[head+off:head+off+800]))
				binary.BigEndian.PutUint16(p[6:], uint16(off/8))
				if off == 0 {
					p[6] |= 0x20 // more fragments
				}
				packet.FixChecksum(p)
			}
			pieces = append(pieces, p)
		}
		d.mustSend(sealed(pieces...)...)
		if got := d.receive(1, "")[0]; !bytes.Equal(got, whole) {
			t.Errorf("%x arrived, want %x", got, whole)
		}
	}
	if by := d.raw(); len(by) > 0 {
		t.Errorf("%d fragments have gone by the IP output", len(by))
	}
}

// Once in a second a whole batch goes by the raw socket, so that the kernel checks whether
// the neighbour is still there.
func TestDirectConfirms(t *testing.T) {
	d := newDirect(t)
	packets := [][]byte{ip(false, 50, "one"), ip(true, 50, "two"), ip(false, 51, "three"), ip(true, 51, "four")}
	for i, tt := range []struct {
		at  time.Duration
		raw int
	}{{0, 0}, {999 * time.Millisecond, 0}, {time.Second, 4}, {time.Second, 0}, {1999 * time.Millisecond, 0}, {10 * time.Second, 4}, {10 * time.Second, 0}} {
		d.now = int64(tt.at)
		d.mustSend(sealed(packets...)...)
		d.arrive(packets...)
		if by := d.raw(); len(by) != tt.raw {
			t.Errorf("%d, at %v: %d packets have gone by the IP output, want %d", i, tt.at, len(by), tt.raw)
		}
	}
}

// A packet that cannot be sent is reported, and those around it are sent.
func TestDirectErrors(t *testing.T) {
	d := newDirect(t)
	small, large := ip(false, 50, "small"), ip(true, 50, strings.Repeat("x", 1461))
	pkts := sealed(small, large, large, small)
	var failed []*packet.Buffer
	fail := func(b *packet.Buffer, err error) {
		if err != unix.EMSGSIZE {
			t.Errorf("%v, want EMSGSIZE", err)
		}
		failed = append(failed, b)
	}
	d.out.Send(pkts, fail, nil)
	if !slices.Equal(failed, pkts[1:3]) {
		t.Errorf("%d packets failed, want the two large ones", len(failed))
	}
	d.arrive(small, small)
	if by := d.raw(); len(by) > 0 {
		t.Errorf("%d packets have gone by the IP output", len(by))
	}
	d.must(d.here.Down("eth0"))
	n := 0
	d.out.Send(sealed(small, small), func(_ *packet.Buffer, err error) {
		if err == nil {
			t.Error("a failure without an error")
		}
		n++
	}, nil)
	if n != 2 {
		t.Errorf("%d of 2 packets failed on a device that is down", n)
	}
}

// A device that takes no packets gets them by the raw socket for a while.
func TestDirectFull(t *testing.T) {
	d := newDirect(t)
	p := ip(false, 50, "one")
	d.mustSend(sealed(p)...)
	d.arrive(p)
	d.must(d.there.Down("eth0")) // no carrier: the device drops all
	d.now = int64(500 * time.Millisecond)
	d.out.Send(sealed(p, p), func(*packet.Buffer, error) {}, nil)
	d.must(d.there.Up("eth0"))
	d.must(lab.Await(func() bool {
		_, err := d.here.Ping(lab.Ping{Dst: there4, Timeout: 10 * time.Millisecond})
		return err == nil
	}))
	d.raw()
	for _, tt := range []struct {
		at  time.Duration
		raw int
	}{{1400 * time.Millisecond, 1}, {1499 * time.Millisecond, 1}, {1500 * time.Millisecond, 1 /* to confirm */}, {1501 * time.Millisecond, 0}} {
		d.now = int64(tt.at)
		text := tt.at.String()
		d.mustSend(sealed(ip(false, 50, text))...)
		d.receive(10, text) // also what was waiting
		if by := d.raw(); len(by) != tt.raw {
			t.Errorf("at %v: %d packets have gone by the IP output, want %d", tt.at, len(by), tt.raw)
		}
	}
}

// Nothing is allocated for packets that go directly.
func TestDirectAllocates(t *testing.T) {
	d := newDirect(t)
	pkts := sealed(ip(false, 50, "one"), ip(true, 50, "two"), ip(false, 50, "three"))
	fail := func(*packet.Buffer, error) { t.Error("not sent") }
	if n := testing.AllocsPerRun(100, func() { d.out.Send(pkts, fail, nil) }); n != 0 {
		t.Errorf("Send allocates %v times", n)
	}
	if by := d.raw(); len(by) > 0 {
		t.Errorf("%d packets have gone by the IP output", len(by))
	}
}

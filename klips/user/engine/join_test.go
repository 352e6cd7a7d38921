package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/reassembly"
)

// udpWith makes a UDP datagram with n bytes of data from port 5060 to 7000.
func udpWith(src, dst netip.Addr, n int) []byte {
	p := ip(src, dst, packet.ProtoUDP, 8+n)
	u := p[len(p)-8-n:]
	binary.BigEndian.PutUint16(u, 5060)
	binary.BigEndian.PutUint16(u[2:], 7000)
	binary.BigEndian.PutUint16(u[4:], uint16(8+n))
	u[6], u[7] = 0, 0
	pseudo := packet.Sum(src.AsSlice(), packet.Sum(dst.AsSlice(), uint64(len(u))+packet.ProtoUDP))
	binary.BigEndian.PutUint16(u[6:], ^packet.Fold(packet.Sum(u, pseudo)))
	return p
}

// cut makes fragments of at most mtu bytes of an IPv4 packet, or of an IPv6 packet
// without extension headers.
func cut(p []byte, mtu int) (l [][]byte) {
	head := 20
	if p[0]>>4 == 6 {
		head = 40
	}
	for at, step := 0, (mtu-head-8)&^7; head+at < len(p); at += step {
		end := min(head+at+step, len(p))
		w := uint16(at)
		if end < len(p) {
			w |= 1
		}
		f := bytes.Clone(p[:head])
		if head == 20 {
			binary.BigEndian.PutUint16(f[6:], w>>3|w&1<<13)
		} else {
			f = append(f, f[6], 0, byte(w>>8), byte(w), 0, 0, 0xbe, 0xef)
			f[6] = packet.ProtoFragment
		}
		f = append(f, p[head+at:end]...)
		packet.SetTotal(f, len(f))
		packet.FixChecksum(f)
		l = append(l, f)
	}
	return l
}

// wholes reassembles packets that were sent in fragments.
func wholes(t testing.TB, sent [][]byte) (l [][]byte) {
	t.Helper()
	tab := reassembly.New(1<<20, func(n int) { t.Errorf("%d fragments sent do not fit together", n) })
	for _, p := range sent {
		h, ok := packet.ParseIP(p)
		if !ok || len(p) > 1500 {
			t.Errorf("sent %d bytes: %x", len(p), p)
			continue
		}
		if !h.Frag {
			l = append(l, p)
			continue
		}
		b := buffered(p)
		if tab.Add(b, &h, 0) == reassembly.Whole {
			l = append(l, bytes.Clone(b.Bytes()))
		}
	}
	if !tab.Empty() {
		t.Errorf("%d fragments sent lack others", tab.Len())
	}
	return l
}

func buffered(p []byte) *packet.Buffer {
	b := &packet.Buffer{B: make([]byte, packet.Headroom+1<<16+packet.Tailroom), Off: packet.Headroom}
	b.End = b.Off + copy(b.B[b.Off:], p)
	return b
}

// outPieces is out for fragments. These packets do not end one by one.
func (p *pair) outPieces(pkts ...[]byte) (sent [][]byte) {
	p.t.Helper()
	n := len(p.net.Sent())
	for _, b := range pkts {
		p.ha.Link("ipsec0").Send(b)
	}
	p.ha.Settle()
	return p.net.Sent()[n:]
}

// A datagram that the host has fragmented is protected whole in transport mode. The order
// of its fragments does not matter, and the SA may depend on ports. A datagram that the
// host has not fragmented stays the same.
func TestTransportIsWhole(t *testing.T) {
	natt := klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
	for _, c := range []struct {
		name   string
		layers []layer
		natt   klips.NATT
	}{
		{"esp", []layer{gcm}, klips.NATT{}},
		{"ah", []layer{ahMD5}, klips.NATT{}},
		{"esp+ah", []layer{aes, ahMD5}, klips.NATT{}},
		{"comp+esp", []layer{comp, aes}, klips.NATT{}},
		{"esp in UDP", []layer{aes}, natt},
	} {
		for _, ends := range [][2]netip.Addr{{gwA4, gwB4}, {gwA6, gwB6}} {
			for _, ports := range []bool{false, true} {
				t.Run(fmt.Sprint(c.name, " to ", ends[1], " ports ", ports), func(t *testing.T) {
					p := bare(t)
					p.natt = c.natt
					id := p.makeGroup(c.layers, ends[0], ends[1], 0)
					s := klips.Selector{Src: netip.PrefixFrom(ends[0], ends[0].BitLen()), Dst: netip.PrefixFrom(ends[1], ends[1].BitLen())}
					if ports {
						s.Proto, s.DstPort = packet.ProtoUDP, 7000
					}
					p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: id}, klips.ErouteAdd))
					for _, n := range []int{1500, 3000, 20000, 64000} {
						for _, mtu := range []int{1500, 1280, 16260} {
							clear := udpWith(ends[0], ends[1], n)
							pieces := cut(clear, mtu)
							if len(pieces) == 1 {
								continue
							}
							for _, reverse := range []bool{false, true} {
								l := pieces
								if reverse {
									l = append(append([][]byte(nil), pieces[1:]...), pieces[0])
								}
								sent := wholes(t, p.outPieces(l...))
								if len(sent) != 1 {
									t.Fatalf("%d bytes in %d fragments: %d packets sent, want 1", n, len(l), len(sent))
								}
								p.hb.Arrive(sent[0])
								if got := p.delivered(); len(got) != 1 || !bytes.Equal(got[0], clear) {
									t.Errorf("%d bytes in %d fragments: %d packets delivered, want the datagram", n, len(l), len(got))
								}
							}
						}
					}
					if s := p.stats(p.a); s.TxErrors+s.TxDropped != 0 {
						t.Errorf("the sender counts %+v", s)
					}
				})
			}
		}
	}
}

// A tunnel carries a datagram of the host whole, too, unless it is too long. It also
// carries a datagram of another host whole if its first fragment matches an eroute by its
// ports, but not if ports do not matter.
func TestTunnelOfFragments(t *testing.T) {
	for _, ends := range [][2]netip.Addr{{gwA4, gwB4}, {gwA6, gwB6}, {inA4, inB4}, {inA6, inB6}} {
		for _, ports := range []bool{false, true} {
			t.Run(fmt.Sprint(ends[0], " ports ", ports), func(t *testing.T) {
				p := bare(t)
				id := p.makeGroup([]layer{tun, aes}, gwA4, gwB4, 0)
				s := klips.Selector{Src: netip.PrefixFrom(ends[0], ends[0].BitLen()), Dst: netip.PrefixFrom(ends[1], ends[1].BitLen())}
				if ports {
					s.Proto, s.DstPort = packet.ProtoUDP, 7000
				}
				p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: id}, klips.ErouteAdd))
				whole := ports || p.ha.IsLocal(ends[0])
				for _, n := range []int{3000, 20000} {
					clear := udpWith(ends[0], ends[1], n)
					for _, b := range wholes(t, p.outPieces(cut(clear, 1400)...)) {
						p.hb.Arrive(b)
					}
					got := p.delivered()
					if (len(got) == 1) != whole {
						t.Errorf("%d bytes: %d packets delivered", n, len(got))
					}
					if got := wholes(t, joinLong(got)); len(got) != 1 || !bytes.Equal(got[0], clear) {
						t.Errorf("%d bytes: %d datagrams delivered, want the one", n, len(got))
					}
				}
				// With its headers it would be longer than the largest packet: it goes in
				// pieces.
				clear := udpWith(ends[0], ends[1], 65460)
				for _, b := range wholes(t, p.outPieces(cut(clear, 1400)...)) {
					p.hb.Arrive(b)
				}
				if got := wholes(t, joinLong(p.delivered())); len(got) != 1 || !bytes.Equal(got[0], clear) {
					t.Errorf("the longest: %d datagrams delivered, want the one", len(got))
				}
				if s := p.stats(p.a); s.TxErrors+s.TxDropped != 0 {
					t.Errorf("the sender counts %+v", s)
				}
			})
		}
	}
}

// joinLong removes packets without fragments, whose length wholes need not check.
func joinLong(l [][]byte) (short [][]byte) {
	for _, p := range l {
		if len(p) > 1500 {
			short = append(short, cut(p, 1500)...)
			continue
		}
		short = append(short, p)
	}
	return short
}

// Incomplete datagrams are counted: when they have waited too long, and when the device
// is detached.
func TestFragmentsWaitInVain(t *testing.T) {
	p := bare(t)
	p.both([]layer{aes}, nil)
	pieces := cut(udpWith(gwA4, gwB4, 5000), 1500)
	want := func(n uint64) {
		t.Helper()
		if got := p.drops(p.a)[drop.Fragments.String()]; got != n {
			t.Errorf("%d fragments are dropped, want %d", got, n)
		}
	}
	p.outPieces(pieces[:2]...)
	p.clock.Advance(reassembly.Age - 1)
	want(0)
	p.clock.Advance(1)
	settled(t, "the fragments are dropped", func() bool { return p.drops(p.a)[drop.Fragments.String()] == 2 })
	if sent := p.outPieces(pieces[2:]...); len(sent) != 0 {
		t.Errorf("sent %x", sent)
	}
	want(2)
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	want(uint64(len(pieces)))
}

// A datagram that the host had fragmented may be fragmented again after it was held.
func TestHeldDatagram(t *testing.T) {
	p := newPair(t)
	id := p.makeGroup([]layer{aes}, gwA6, gwB6, 0)
	s := sel("2001:db8::1/128", "2001:db8::2/128")
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIHold)}, klips.ErouteAdd))
	clear := udpWith(gwA6, gwB6, 3000)
	if sent := p.outPieces(cut(clear, 1500)...); len(sent) != 0 {
		t.Errorf("sent %x while it is held", sent)
	}
	n := len(p.net.Sent())
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: id}, klips.ErouteReplace))
	p.ha.Settle()
	if sent := wholes(t, p.net.Sent()[n:]); len(sent) != 1 {
		t.Errorf("%d packets sent, want the datagram", len(sent))
	}
}

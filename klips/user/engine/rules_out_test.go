package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// The tests in the files rules_*_test.go show the rules of KLIPS one by one. RULES.md in
// the directory above lists which test shows which rule.

// out routes packets into A's ipsec0. It returns what A has sent, and the ICMP errors.
func (p *pair) out(pkts ...[]byte) (sent, back [][]byte) {
	p.t.Helper()
	link := p.ha.Link("ipsec0")
	n, ends := len(p.net.Sent()), p.ends(p.a)
	for _, b := range pkts {
		link.Send(b)
	}
	p.ha.Settle()
	if ends = p.ends(p.a) - ends; ends != len(pkts) {
		p.t.Errorf("%d packets were routed into ipsec0, and what became of %d is counted", len(pkts), ends)
	}
	for len(p.ha.ICMP()) > 0 {
		back = append(back, <-p.ha.ICMP())
	}
	return p.net.Sent()[n:], back
}

// in delivers packets to B and returns those that it accepts.
func (p *pair) in(pkts ...[]byte) (got [][]byte) {
	p.t.Helper()
	p.hb.Settle()
	before, ends := len(p.hb.Link("ipsec0").Arrived()), p.ends(p.b)
	for _, b := range pkts {
		p.hb.Arrive(b)
	}
	got = p.delivered()
	if ends = p.ends(p.b) - ends; ends+len(got)-before != len(pkts) {
		p.t.Errorf("%d packets arrived, %d were delivered, and what became of %d others is counted", len(pkts), len(got)-before, ends)
	}
	return got
}

// ends returns how many packets a stack has finished with, except on a virtual device:
// they were sent, are kept, or were dropped for a reason.
func (p *pair) ends(e *engine.Engine) int {
	n := e.Drops().Total()
	l, err := e.Devices(p.t.Context())
	p.must(err)
	for _, d := range l {
		n += d.Stats.TxPackets + d.Drops.Total()
	}
	return int(n) + e.Kept()
}

func (p *pair) delivered() (got [][]byte) {
	p.hb.Settle()
	link := p.hb.Link("ipsec0")
	for len(link.Arrived()) > 0 {
		got = append(got, <-link.Arrived())
	}
	return got
}

// wantStats compares what a device has counted since the last call.
func (p *pair) wantStats(what string, e *engine.Engine, want klips.DeviceStats) {
	p.t.Helper()
	got := p.stats(e)
	if p.before == nil {
		p.before = map[*engine.Engine]klips.DeviceStats{}
	}
	b := p.before[e]
	p.before[e] = got
	got.TxPackets -= b.TxPackets
	got.TxBytes -= b.TxBytes
	got.TxErrors -= b.TxErrors
	got.TxDropped -= b.TxDropped
	got.RxPackets -= b.RxPackets
	got.RxBytes -= b.RxBytes
	got.RxErrors -= b.RxErrors
	got.RxDropped -= b.RxDropped
	if got != want {
		p.t.Errorf("%s counts %+v, want %+v", what, got, want)
	}
}

// count returns the counter of the eroute with a selector.
func (p *pair) count(e *engine.Engine, s klips.Selector) uint64 {
	p.t.Helper()
	l, err := e.Eroutes(p.t.Context())
	p.must(err)
	for _, r := range l {
		if r.Selector == s {
			return r.Packets
		}
	}
	p.t.Errorf("no eroute %v", s)
	return 0
}

func sel(src, dst string) klips.Selector {
	return klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
}

// with returns a copy of an IPv4 packet that f has changed.
func with(p []byte, f func(q []byte)) []byte {
	q := bytes.Clone(p)
	f(q)
	packet.FixChecksum(q)
	return q
}

func df(q []byte) { q[6] |= 0x40 }

func TestDeviceWithoutPhysical(t *testing.T) {
	p := newPair(t)
	id := p.makeGroup([]layer{tun, aes}, gwA4, gwB4, 0)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	pkt := ip(inA4, inB4, 253, 50)
	if sent, back := p.out(pkt); len(sent)+len(back) != 0 {
		t.Errorf("a device without a physical one sent %x, answered %x", sent, back)
	}
	p.wantStats("a device without a physical one", p.a, klips.DeviceStats{})
	if n := p.count(p.a, sel("10.1.0.0/16", "10.2.0.0/16")); n != 0 {
		t.Errorf("its packets count %d at an eroute", n)
	}
	// SAs and eroutes still exist when it is attached again.
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	if sent, _ := p.out(pkt); len(sent) != 1 {
		t.Errorf("attached again it sent %x", sent)
	}
}

func TestMissingSA(t *testing.T) {
	p := newPair(t)
	id := klips.SAID{Dst: gwB4, SPI: 0x999, Proto: klips.ProtoTun}
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
	if sent, back := p.out(ip(inA4, inB4, 253, 50)); len(sent)+len(back) != 0 {
		t.Errorf("sent %x, answered %x", sent, back)
	}
	p.wantStats("a missing SA", p.a, klips.DeviceStats{TxDropped: 1})
	if n := p.count(p.a, sel("10.1.0.0/16", "10.2.0.0/16")); n != 1 {
		t.Errorf("the eroute counts %d, want 1", n)
	}
}

func TestLarval(t *testing.T) {
	p := newPair(t)
	id := klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}
	spec := &klips.SASpec{ID: id, Src: gwA4, Transform: aes.tr, EncKey: testKey(16), AuthKey: testKey(20)}
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", id, klips.ErouteAdd)
	for _, e := range []*engine.Engine{p.a, p.b} {
		if _, err := e.ReserveSA(t.Context(), id, gwA4, id.SPI, id.SPI); err != nil {
			t.Fatal(err)
		}
	}
	pkt := ip(gwA4, gwB4, 253, 50)
	if sent, _ := p.out(pkt); len(sent) != 0 {
		t.Errorf("a larval SA sent %x", sent)
	}
	p.wantStats("a larval SA", p.a, klips.DeviceStats{TxErrors: 1})
	p.must(p.a.UpdateSA(t.Context(), spec))
	sent, _ := p.out(pkt)
	if got := p.delivered(); len(sent) != 1 || len(got) != 0 {
		t.Fatalf("a larval SA delivered %x of %x", got, sent)
	}
	p.wantStats("a larval SA", p.b, klips.DeviceStats{RxPackets: 1, RxDropped: 1})
	p.must(p.b.UpdateSA(t.Context(), spec))
	if got := p.in(sent...); len(got) != 1 || !bytes.Equal(got[0], pkt) {
		t.Errorf("after the update %x was delivered, want %x", got, pkt)
	}
}

func TestOddPackets(t *testing.T) {
	p := newPair(t)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIPass), klips.ErouteAdd)
	udp := sel("10.1.0.0/16", "10.2.0.0/16")
	udp.Proto = 17
	port := udp
	port.DstPort = 7
	for _, s := range []klips.Selector{udp, port} {
		p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIDrop)}, klips.ErouteAdd))
	}
	good := udpIn(inA4, inB4, 20)
	options := append(append(with(good[:20], func(q []byte) { q[0] = 0x46 }), 1, 1, 1, 1), good[20:]...)
	packet.SetTotal(options, len(options))
	packet.FixChecksum(options)
	for _, c := range []struct {
		name     string
		p        []byte
		want     klips.DeviceStats
		all, udp uint64 // counters afterwards
		port     uint64
	}{
		{"with IP options", options, klips.DeviceStats{TxDropped: 1}, 0, 0, 0},
		{"with a TTL of 0", with(good, func(q []byte) { q[8] = 0 }), klips.DeviceStats{TxDropped: 1}, 0, 0, 0},
		{"to a port", good, klips.DeviceStats{TxDropped: 1}, 0, 0, 1},
		{"a first fragment", with(good, func(q []byte) { q[6] = 0x20 }), klips.DeviceStats{TxDropped: 1}, 0, 0, 2},
		{"a later fragment, which has no ports", with(good, func(q []byte) { q[7] = 4 }), klips.DeviceStats{TxDropped: 1}, 0, 1, 2},
		{"of another protocol", ip(inA4, inB4, 253, 20), klips.DeviceStats{TxPackets: 1, TxBytes: 40}, 1, 1, 2},
		{"that ends before its ports", ip(inA4, inB4, 17, 2), klips.DeviceStats{TxDropped: 1}, 1, 2, 2},
		{"cut short", good[:30], klips.DeviceStats{TxErrors: 1}, 1, 2, 2},
		{"of no version", []byte{0, 1, 2}, klips.DeviceStats{TxErrors: 1}, 1, 2, 2},
	} {
		p.out(c.p)
		p.wantStats("a packet "+c.name, p.a, c.want)
		if a, u, o := p.count(p.a, sel("10.1.0.0/16", "10.2.0.0/16")), p.count(p.a, udp), p.count(p.a, port); a != c.all || u != c.udp || o != c.port {
			t.Errorf("after a packet %s the eroutes count %d, %d, %d, want %d, %d, %d", c.name, a, u, o, c.all, c.udp, c.port)
		}
	}
}

// The MTU that a group leaves: what senders learn, up to the last byte that fits, and
// what they learn with KLIPS.
func TestEffectiveMTU(t *testing.T) {
	natt := klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
	aes256 := layer{klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA256}}
	aes384 := layer{klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA384}}
	null := layer{klips.ProtoESP, klips.Transform{Enc: alg.Null, Auth: alg.SHA1}}
	for _, c := range []struct {
		name   string
		layers []layer
		natt   klips.NATT
		exact  [2]int // over IPv4 and IPv6
		klips  int    // over IPv4; 0: what does not fit
	}{
		{"tun+3des", []layer{tun, tdes}, klips.NATT{}, [2]int{1446, 1430}, 1443},
		{"tun+aes", []layer{tun, aes}, klips.NATT{}, [2]int{1438, 1422}, 1435},
		{"tun+aes, long ICV", []layer{tun, aes256}, klips.NATT{}, [2]int{1438, 1406}, 1435},
		{"tun+aes, longer ICV", []layer{tun, aes384}, klips.NATT{}, [2]int{1422, 1406}, 0},
		{"tun+null", []layer{tun, null}, klips.NATT{}, [2]int{1458, 1438}, 1451},
		{"tun+3des in UDP", []layer{tun, tdes}, natt, [2]int{1438, 1422}, 1435},
		{"tun+3des+ah", []layer{tun, tdes, ahMD5}, klips.NATT{}, [2]int{1422, 1406}, 1419},
		{"tun+ah", []layer{tun, ahMD5}, klips.NATT{}, [2]int{1456, 1436}, 1451},
		{"3des", []layer{tdes}, klips.NATT{}, [2]int{1466, 1470}, 1463},
		{"ah", []layer{ahMD5}, klips.NATT{}, [2]int{1476, 1476}, 1471},
	} {
		for i, gw := range [][2]netip.Addr{{gwA4, gwB4}, {gwA6, gwB6}} {
			t.Run(fmt.Sprint(c.name, " to ", gw[1]), func(t *testing.T) {
				p := newPair(t)
				src, dst := inA4, inB4
				tunnel := c.layers[0].proto == klips.ProtoTun
				if !tunnel {
					src, dst = gw[0], gw[1]
				}
				p.natt = c.natt
				id := p.makeGroup(c.layers, gw[0], gw[1], 0)
				if mtu, _ := p.ha.Link("ipsec0").MTU(); mtu != c.exact[i] {
					t.Errorf("ipsec0 has an MTU of %d, want %d", mtu, c.exact[i])
				}
				p.route(p.a, fmt.Sprint(src, "/", src.BitLen()), fmt.Sprint(dst, "/", dst.BitLen()), id, klips.ErouteAdd)
				head := 20
				if src.Is6() {
					head = 40
				}
				told := func(what string, q []byte, want int) {
					t.Helper()
					_, back := p.out(q)
					got := 0
					if len(back) > 0 {
						got = toldMTU(t, back[0])
					}
					if len(back) > 1 {
						t.Errorf("%s: %d answers", what, len(back))
					}
					if got != want {
						t.Errorf("%s: reported an MTU of %d, want %d", what, got, want)
					}
				}
				mtu := c.exact[i]
				long := df4(ip(src, dst, 253, 1500-head))
				told("1500 bytes", long, mtu)
				told("one byte more than fits", df4(ip(src, dst, 253, mtu+1-head)), mtu)
				before := p.stats(p.a)
				sent, _ := p.out(df4(ip(src, dst, 253, mtu-head)))
				if len(sent) != 1 || p.stats(p.a).TxErrors != before.TxErrors {
					t.Errorf("what fits exactly was sent in %d packets", len(sent))
				}
				if src.Is4() {
					told("a ping", with(ip(src, dst, 1, 1480), func(q []byte) { df(q); q[20] = 8 }), mtu)
					told("DF clear", ip(src, dst, 253, 1480), 0)
					told("an ICMP error", with(ip(src, dst, 1, 1480), func(q []byte) { df(q); q[20] = 3 }), 0)
					if tunnel {
						told("a later fragment", with(long, func(q []byte) { q[7] = 3 }), 0)
					}
				}
				p.must(p.a.SetKnob("icmp", 0))
				want := 0
				if src.Is4() && !tunnel {
					want = mtu // it is not sent, so the sender must get an error
				}
				told("with the knob icmp off", long, want)

				if gw[0].Is6() || c.klips == 0 {
					return
				}
				p.must(p.a.SetKnob("icmp", 1))
				p.must(p.a.SetKnob("mtu_rule", 1))
				_, back := p.out(long)
				if len(back) == 0 || toldMTU(t, back[0]) != c.klips {
					t.Errorf("by the rule of KLIPS reported %x, want %d", back, c.klips)
				}
				for name, q := range map[string][]byte{
					"exact length": with(ip(src, dst, 253, c.klips-20), df),
					"ICMP":         with(ip(src, dst, 1, 1480), func(q []byte) { df(q); q[20] = 8 }),
				} {
					if _, back := p.out(q); len(back) > 0 && toldMTU(t, back[0]) != 1500 {
						t.Errorf("by the rule of KLIPS, %s: answered %x", name, back)
					}
				}
			})
		}
	}
}

// df4 sets DF, which IPv6 does not have.
func df4(p []byte) []byte {
	if p[0]>>4 == 6 {
		return p
	}
	return with(p, df)
}

// toldMTU returns the MTU in an ICMP error.
func toldMTU(t testing.TB, p []byte) int {
	t.Helper()
	h, ok := packet.ParseIP(p)
	m := p[h.Len:]
	if !ok || h.Version == 4 && (m[0] != 3 || m[1] != 4) || h.Version == 6 && m[0] != 2 {
		t.Fatalf("%x is no report of an MTU", p)
	}
	return int(binary.BigEndian.Uint32(m[4:]))
}

// Packets that are sent although they were reported as too long, and in how many pieces.
func TestTooLongIsSent(t *testing.T) {
	p := newPair(t)
	tunnel := p.makeGroup([]layer{tun, tdes}, gwA4, gwB4, 0)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", tunnel, klips.ErouteAdd)
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: klips.SAID{Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoESP}, Src: gwA4,
		Transform: tdes.tr, EncKey: testKey(24), AuthKey: testKey(16)}))
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", klips.SAID{Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoESP}, klips.ErouteAdd)
	for _, c := range []struct {
		name       string
		rule       int
		p          []byte
		sent, back int
		want       klips.DeviceStats
	}{
		{"tunnel, DF", 0, with(ip(inA4, inB4, 253, 1480), df), 2, 1, klips.DeviceStats{TxPackets: 1, TxBytes: 1552}},
		{"tunnel", 0, ip(inA4, inB4, 253, 3000), 3, 0, klips.DeviceStats{TxPackets: 1, TxBytes: 3072}},
		{"transport", 0, ip(gwA4, gwB4, 253, 1480), 2, 0, klips.DeviceStats{TxPackets: 1, TxBytes: 1536}},
		// The DF of the packet itself is in the only header.
		{"transport, DF", 0, with(ip(gwA4, gwB4, 253, 1480), df), 0, 1, klips.DeviceStats{TxErrors: 1}},
		// With KLIPS there are two errors: by the rule, and because the device cannot
		// send it.
		{"transport, DF", 1, with(ip(gwA4, gwB4, 253, 1480), df), 0, 2, klips.DeviceStats{TxErrors: 1, TxBytes: 1536}},
		{"more than any packet may have", 0, ip(inA4, inB4, 253, 65495), 0, 0, klips.DeviceStats{TxErrors: 1}},
	} {
		p.must(p.a.SetKnob("mtu_rule", c.rule))
		sent, back := p.out(c.p)
		if len(sent) != c.sent || len(back) != c.back {
			t.Errorf("%s: %d packets sent, %d answers; want %d, %d", c.name, len(sent), len(back), c.sent, c.back)
		}
		p.wantStats(c.name, p.a, c.want)
		for _, s := range sent {
			if s[6]&0x40 != 0 || len(s) > 1500 {
				t.Errorf("%s: sent %d bytes, flags %#x", c.name, len(s), s[6])
			}
		}
	}
}

func TestOuterHeader(t *testing.T) {
	p := newPair(t)
	other := netip.MustParseAddr("192.0.2.200") // the tun SA's own source
	tunID, espID := klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoTun}, klips.SAID{Dst: gwB4, SPI: 0x1001, Proto: klips.ProtoESP}
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: tunID, Src: other}))
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: espID, Src: gwA4, Transform: tdes.tr, EncKey: testKey(24), AuthKey: testKey(16)}))
	p.must(p.a.Group(t.Context(), []klips.SAID{tunID, espID}))
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", tunID, klips.ErouteAdd)
	pkt := with(ip(inA4, inB4, 253, 100), func(q []byte) { df(q); q[1] = 0xb9; q[8] = 3 })
	for hide, want := range map[int]uint8{1: 0, 0: 0xb9} {
		p.must(p.a.SetKnob("tos", hide))
		sent, _ := p.out(pkt)
		if len(sent) != 1 {
			t.Fatalf("sent %x", sent)
		}
		h, _ := packet.ParseIP(sent[0])
		if h.TOS != want || h.TTL != 64 || h.DF || h.Frag || h.Src != other || h.Dst != gwB4 || h.ID == 0 || h.Proto != 50 {
			t.Errorf("with tos=%d the outer header is %+v", hide, h)
		}
	}
}

// A tun SA that copies the TOS does so whatever the knob is. It copies all DSCPs (RFC
// 2983 section 3) and all ECN fields (RFC 6040 section 4.1), between IPv4 and IPv6, too.
func TestCopyTOS(t *testing.T) {
	for _, outer := range [][2]netip.Addr{{gwA4, gwB4}, {gwA6, gwB6}} {
		p := newPair(t)
		ids := [2]klips.SAID{{Dst: outer[1], SPI: 0x1000, Proto: klips.ProtoTun}, {Dst: outer[1], SPI: 0x1001, Proto: klips.ProtoESP}}
		p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: ids[0], Src: outer[0], CopyTOS: true}))
		p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: ids[1], Src: outer[0], Transform: tdes.tr, EncKey: testKey(24), AuthKey: testKey(16)}))
		p.must(p.a.Group(t.Context(), ids[:]))
		if !p.sa(p.a, ids[0]).CopyTOS {
			t.Error("the SA is listed without CopyTOS")
		}
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
		p.route(p.a, "2001:db8:a::/48", "2001:db8:b::/48", ids[0], klips.ErouteAdd)
		for _, knob := range []int{0, 1} {
			p.must(p.a.SetKnob("tos", knob))
			for tos := range 256 {
				for _, pkt := range [][]byte{
					with(ip(inA4, inB4, 253, 100), func(q []byte) { q[1] = uint8(tos) }),
					with(ip(inA6, inB6, 253, 100), func(q []byte) { q[0], q[1] = 0x60|uint8(tos)>>4, uint8(tos)<<4 }),
				} {
					sent, _ := p.out(pkt)
					if len(sent) != 1 {
						t.Fatalf("sent %x, want one packet", sent)
					}
					if h, _ := packet.ParseIP(sent[0]); h.TOS != uint8(tos) || h.Dst != outer[1] {
						t.Fatalf("version %d, TOS %#x, knob %d: the outer header is %+v", pkt[0]>>4, tos, knob, h)
					}
				}
			}
		}
	}
}

// The TTL of the outer header is the host's TTL when the device was attached.
func TestOuterTTL(t *testing.T) {
	p := newPair(t)
	id4 := p.makeGroup([]layer{tun, ahMD5}, gwA4, gwB4, 0)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id4, klips.ErouteAdd)
	id6 := p.makeGroup([]layer{tun, ahMD5}, gwA6, gwB6, 0)
	p.route(p.a, "2001:db8:a::/48", "2001:db8:b::/48", id6, klips.ErouteAdd)
	ttls := func() (l [2]uint8) {
		for i, pkt := range [][]byte{ip(inA4, inB4, 253, 100), ip(inA6, inB6, 253, 100)} {
			sent, _ := p.out(pkt)
			if len(sent) != 1 {
				t.Fatalf("sent %x", sent)
			}
			h, _ := packet.ParseIP(sent[0])
			if inner, _ := packet.ParseIP(sent[0][h.Len+24:]); inner.TTL != 63 {
				t.Errorf("the inner TTL became %d", inner.TTL)
			}
			l[i] = h.TTL
		}
		return l
	}
	if got := ttls(); got != [2]uint8{64, 64} {
		t.Errorf("outer TTLs %v, want 64", got)
	}
	p.ha.SetHops("eth0", 255, 2)
	if got := ttls(); got != [2]uint8{64, 64} {
		t.Errorf("outer TTLs %v, want 64 until the device is attached again", got)
	}
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	if got := ttls(); got != [2]uint8{255, 2} {
		t.Errorf("outer TTLs %v, want 255 and 2", got)
	}
}

func TestNestedByRoute(t *testing.T) {
	p := newPair(t)
	gw := []netip.Addr{gwB4, netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")}
	var ids []klips.SAID
	for i, dst := range gw {
		t, e := klips.SAID{Dst: dst, SPI: 0x1000, Proto: klips.ProtoTun}, klips.SAID{Dst: dst, SPI: 0x1001, Proto: klips.ProtoESP}
		p.must(p.a.AddSA(p.t.Context(), &klips.SASpec{ID: t, Src: gwA4}))
		p.must(p.a.AddSA(p.t.Context(), &klips.SASpec{ID: e, Src: gwA4, Transform: tdes.tr, EncKey: testKey(24), AuthKey: testKey(16)}))
		p.must(p.a.Group(p.t.Context(), []klips.SAID{t, e}))
		ids = append(ids, t)
		if i > 0 {
			p.route(p.a, "192.0.2.1/32", gw[i-1].String()+"/32", t, klips.ErouteAdd)
		}
	}
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	const nested = 248 // 84 bytes become 136, then 192, then 248
	sent, _ := p.out(ip(inA4, inB4, 253, 64))
	if len(sent) != 1 || len(sent[0]) != nested || packet.Dst(sent[0]) != gw[2] {
		t.Fatalf("sent %x, want one packet of three layers to %v", sent, gw[2])
	}
	for i := range 2 {
		if n := p.count(p.a, sel("192.0.2.1/32", gw[i].String()+"/32")); n != 1 {
			t.Errorf("the eroute to %v counts %d, want 1", gw[i], n)
		}
	}
	p.wantStats("nested", p.a, klips.DeviceStats{TxPackets: 1, TxBytes: nested})
	// A shunt never applies to a protected packet.
	p.route(p.a, "192.0.2.1/32", gw[2].String()+"/32", klips.Magic(klips.SPIDrop), klips.ErouteAdd)
	if sent, _ := p.out(ip(inA4, inB4, 253, 64)); len(sent) != 1 {
		t.Errorf("a %%drop eroute for the outer packet: sent %x", sent)
	}
	p.wantStats("%drop for the outer packet", p.a, klips.DeviceStats{TxPackets: 1, TxBytes: nested})
	// A loop is an error.
	p.route(p.a, "192.0.2.1/32", gw[2].String()+"/32", ids[0], klips.ErouteReplace)
	if sent, _ := p.out(ip(inA4, inB4, 253, 64)); len(sent) != 0 {
		t.Errorf("eroutes in a circle: sent %x", sent)
	}
	p.wantStats("eroutes in a circle", p.a, klips.DeviceStats{TxErrors: 1})
}

func TestTransportCountsTwice(t *testing.T) {
	p := newPair(t)
	id := p.makeGroup([]layer{tdes}, gwA4, gwB4, 0)
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", id, klips.ErouteAdd)
	p.out(ip(gwA4, gwB4, 253, 10))
	if n := p.count(p.a, sel("192.0.2.1/32", "192.0.2.2/32")); n != 2 {
		t.Errorf("the eroute counts %d, want 2: the packet and what became of it", n)
	}
}

func TestDirectionStays(t *testing.T) {
	p := newPair(t)
	new := netip.MustParseAddr("192.0.2.99")
	dir := func(spi klips.SPI) klips.Direction {
		id := klips.SAID{Dst: new, SPI: spi, Proto: klips.ProtoTun}
		_ = p.a.AddSA(t.Context(), &klips.SASpec{ID: id, Src: gwB4})
		sa, err := p.a.GetSA(t.Context(), id)
		p.must(err)
		return sa.Dir
	}
	before := dir(0x1000)
	p.ha.AddAddr(new)
	if a, b, c := before, dir(0x1000), dir(0x1001); a != klips.Outbound || b != klips.Outbound || c != klips.Inbound {
		t.Errorf("directions %v, then %v, of a new SA %v", a, b, c)
	}
	p.ha.RemoveAddr(new)
	if a, b := dir(0x1001), dir(0x1002); a != klips.Inbound || b != klips.Outbound {
		t.Errorf("directions without the address: %v, of a new SA %v", a, b)
	}
}

func TestDevices(t *testing.T) {
	p := newPair(t)
	p.ha.AddDevice("eth1", 1400)
	id := p.makeGroup([]layer{tun, tdes}, gwA4, gwB4, 0)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
	in := klips.SAID{Dst: gwA4, SPI: 0x3000, Proto: klips.ProtoESP}
	for _, e := range []*engine.Engine{p.a, p.b} {
		p.must(e.AddSA(t.Context(), &klips.SASpec{ID: in, Src: gwB4, Transform: tdes.tr, EncKey: testKey(24), AuthKey: testKey(16)}))
	}
	p.route(p.b, "192.0.2.2/32", "192.0.2.1/32", in, klips.ErouteAdd)
	p.must(p.a.Attach(t.Context(), "ipsec1", "eth1"))
	from := func(index int) int { // which device delivers what arrives on a physical device
		p.hb.Link("ipsec0").Send(ip(gwB4, gwA4, 253, 10))
		p.hb.Settle()
		p.ha.Settle() // through eth0
		if index > 1 {
			<-p.ha.Link("ipsec0").Arrived()
			p.ha.ArriveBy(index, p.net.Sent()[len(p.net.Sent())-1])
			p.ha.Settle()
		}
		for n, name := range []string{"ipsec0", "ipsec1"} {
			if l := p.ha.Link(name); len(l.Arrived()) > 0 {
				<-l.Arrived()
				return n
			}
		}
		return -1
	}
	if a, b := from(1), from(2); a != 0 || b != 1 {
		t.Errorf("what arrives by eth0 and eth1 is delivered by ipsec%d and ipsec%d", a, b)
	}
	// Two on one physical device: the lower number receives, both send.
	p.must(p.a.Detach(t.Context(), "ipsec1"))
	p.must(p.a.Attach(t.Context(), "ipsec1", "eth0"))
	if n := from(1); n != 0 {
		t.Errorf("two devices on eth0: ipsec%d delivers", n)
	}
	n := len(p.net.Sent())
	p.ha.Link("ipsec1").Send(ip(inA4, inB4, 253, 10))
	p.ha.Settle()
	if got := len(p.net.Sent()) - n; got != 1 {
		t.Errorf("ipsec1 sent %d packets", got)
	}
	// The MTU of the next packet is the new one. The listings show the MTU when it was
	// attached.
	p.ha.SetDeviceMTU("eth0", 1000)
	sent, _ := p.out(ip(inA4, inB4, 253, 1000))
	if len(sent) != 2 {
		t.Errorf("with an MTU of 1000 sent in %d pieces, want 2", len(sent))
	}
	l, err := p.a.Devices(t.Context())
	p.must(err)
	if d := l[0]; d.MTU != klips.DeviceMTU || d.AttMTU != 1500 || d.PhysMTU != 1000 {
		t.Errorf("listed as %+v", d)
	}
}

// A physical device that goes down detaches all devices that are attached to it.
func TestPhysicalDeviceDown(t *testing.T) {
	p := newPair(t)
	p.must(p.a.Attach(t.Context(), "ipsec1", "eth0"))
	p.ha.TakeDown("eth0")
	attached := func() (names []string) {
		l, err := p.a.Devices(t.Context())
		p.must(err)
		for _, d := range l {
			if d.Physical != "" {
				names = append(names, d.Name)
			}
		}
		return names
	}
	settled(t, "no device is attached", func() bool { return len(attached()) == 0 })
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0")) // only by a command
	if got := attached(); len(got) != 1 {
		t.Errorf("attached: %v", got)
	}
}

// A virtual device that was removed from the system is not listed any more. It can be
// made and attached again.
func TestDeviceRemovedFromSystem(t *testing.T) {
	p := newPair(t)
	p.must(p.ha.Link("ipsec0").Close())
	settled(t, "ipsec0 is not listed", func() bool {
		l, err := p.a.Devices(t.Context())
		p.must(err)
		return len(l) == 1 && l[0].Name == "ipsec1"
	})
	settled(t, "eth0 is not in use", func() bool { return p.ha.Wires() == 0 })
	p.must(p.a.CreateDevice(t.Context(), "ipsec0"))
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIPass), klips.ErouteAdd)
	if sent, _ := p.out(ip(inA4, inB4, 253, 40)); len(sent) != 1 {
		t.Errorf("%d packets sent by the new device, want 1", len(sent))
	}
}

// A device that is made again waits until the packets of the device before are processed:
// both would use the same cipher states.
func TestDeviceMadeAgain(t *testing.T) {
	p := newPair(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				_ = p.a.DeleteDevice(t.Context(), "ipsec0")
				_ = p.a.CreateDevice(t.Context(), "ipsec0")
			}
		})
	}
	wg.Wait()
	_ = p.a.CreateDevice(t.Context(), "ipsec0")
	l, err := p.a.Devices(t.Context())
	p.must(err)
	if len(l) != 2 || p.ha.Link("ipsec0") == nil {
		t.Errorf("devices %+v, want ipsec0 and ipsec1", l)
	}
}

package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

var router4, router6 = netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8::fe")

// tooBig returns what a router sends about packet p: an ICMP error that quotes its first
// n bytes.
func tooBig(p []byte, n, mtu int) []byte {
	h, _ := packet.ParseIP(p)
	m := append(make([]byte, 8), p[:min(n, len(p))]...)
	if h.Version == 4 {
		m[0], m[1] = 3, 4
		binary.BigEndian.PutUint16(m[6:], uint16(mtu))
		binary.BigEndian.PutUint16(m[2:], ^packet.Fold(packet.Sum(m, 0)))
		q := append(ip(router4, h.Src, packet.ProtoICMP, 0), m...)
		packet.SetTotal(q, len(q))
		packet.FixChecksum(q)
		return q
	}
	m[0] = 2
	binary.BigEndian.PutUint32(m[4:], uint32(mtu))
	q := append(ip(router6, h.Src, packet.ProtoICMPv6, 0), m...)
	packet.SetTotal(q, len(q))
	pseudo := packet.Sum(q[8:40], uint64(len(m))+packet.ProtoICMPv6)
	binary.BigEndian.PutUint16(q[42:], ^packet.Fold(packet.Sum(q[40:], pseudo)))
	return q
}

// hears delivers an ICMP message of a router to A.
func (p *pair) hears(q []byte) {
	p.t.Helper()
	before := p.stats(p.a)
	p.ha.Arrive(q)
	p.ha.Settle()
	if after := p.stats(p.a); after != before {
		p.t.Errorf("it counts %+v after %+v: the message is the kernel's, too", after, before)
	}
}

// The MTU that routers report for packets of an SA is stored, reported to senders, and
// forgotten after a time.
func TestPathMTU(t *testing.T) {
	natt := klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
	older := klips.NATT{Type: klips.NATTNonIKE, SPort: 500, DPort: 500}
	for _, c := range []struct {
		name   string
		layers []layer
		natt   klips.NATT
		gw     [2]netip.Addr
		mtu    int // the MTU in the report to the sender if the path has 1400
	}{
		{"esp", []layer{gcm}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1366},
		{"esp6", []layer{gcm}, klips.NATT{}, [2]netip.Addr{gwA6, gwB6}, 1366},
		{"ah", []layer{ahMD5}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1376},
		{"ah6", []layer{ahMD5}, klips.NATT{}, [2]netip.Addr{gwA6, gwB6}, 1376},
		{"esp+ah", []layer{gcm, ahMD5}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1342},
		{"esp in UDP", []layer{gcm}, natt, [2]netip.Addr{gwA4, gwB4}, 1358},
		{"esp in UDP, older", []layer{gcm}, older, [2]netip.Addr{gwA4, gwB4}, 1350},
		{"tunnel in IPv6", []layer{tun, gcm}, klips.NATT{}, [2]netip.Addr{gwA6, gwB6}, 1326},
		{"tunnel in IPv6 and UDP", []layer{tun, gcm}, natt, [2]netip.Addr{gwA6, gwB6}, 1318},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			p.natt = c.natt
			id := p.makeGroup(c.layers, c.gw[0], c.gw[1], 0)
			src, dst := inA4, inB4
			if c.layers[0].proto != klips.ProtoTun {
				src, dst = c.gw[0], c.gw[1]
			}
			p.route(p.a, fmt.Sprint(src, "/", src.BitLen()), fmt.Sprint(dst, "/", dst.BitLen()), id, klips.ErouteAdd)
			head := 20
			if src.Is6() {
				head = 40
			}
			long := df4(ip(src, dst, 253, 1390-head))
			sent, back := p.out(long)
			if len(sent) != 1 || len(back) != 0 {
				t.Fatalf("%d packets sent, %d answers", len(sent), len(back))
			}
			wire := sent[0]

			// A message about a packet that no SA has sent changes nothing.
			spi := len(wire) - len(long)
			for i, b := range wire {
				if b == 0x10 && wire[i+1] == byte(len(c.layers)-1) { // 0x1000 and the index in the group
					spi = i
					break
				}
			}
			for name, q := range map[string][]byte{
				"another SPI":             tooBig(changed(wire, spi+1, 0x99), 600, 1400),
				"a number not sent yet":   tooBig(changed(wire, spi+5, 200), 600, 1400),
				"number 0":                tooBig(changed(wire, spi+5, 0), 600, 1400),
				"another source":          reply(tooBig(changed(wire, addrEnd(wire), 0x77), 600, 1400), c.gw[0]),
				"no smaller MTU":          tooBig(wire, 600, len(wire)),
				"a checksum that is bad":  changed(tooBig(wire, 600, 1400), len(tooBig(wire, 600, 1400))-1, 0xaa),
				"only the IP header":      tooBig(wire, head, 1400),
				"the same, cut very soon": tooBig(wire, 8, 1400),
				"a later fragment":        laterFragment(wire),
			} {
				p.hears(q)
				if sent, back := p.out(long); len(sent) != 1 || len(back) != 0 {
					t.Errorf("after %s: %d packets sent, %d answers", name, len(sent), len(back))
				}
			}

			p.hears(tooBig(wire, 576, 1400))
			sent, back = p.out(long)
			if len(back) != 1 || toldMTU(t, back[0]) != c.mtu {
				t.Fatalf("reported %x, want an MTU of %d", back, c.mtu)
			}
			if h, _ := packet.ParseIP(back[0]); h.Src != c.gw[0] && !p.ha.IsLocal(h.Src) {
				t.Errorf("reported by %v", h.Src)
			}
			if tunnel := c.layers[0].proto == klips.ProtoTun; tunnel == (len(sent) == 0) {
				t.Errorf("%d packets sent", len(sent))
			}
			sent, back = p.out(df4(ip(src, dst, 253, c.mtu-head)))
			if len(sent) != 1 || len(back) != 0 || len(sent[0]) > 1400 {
				t.Errorf("what fits is sent in %d packets, with %d answers", len(sent), len(back))
			}
			for _, s := range p.outPieces(cut(udpWith(src, dst, 3000), 1500)...) {
				if len(s) > 1400 {
					t.Errorf("sent %d bytes", len(s))
				}
			}
			p.hears(tooBig(wire, 576, 1450)) // larger than what is known
			p.hears(tooBig(wire, 576, 1))    // no link has an MTU of 1
			_, back = p.out(long)
			least := map[uint8]int{4: 552, 6: 1280}[wire[0]>>4]
			if len(back) != 1 || toldMTU(t, back[0]) > max(least, 1280*head/40-640) {
				t.Errorf("reported %d", toldMTU(t, back[0]))
			}

			p.clock.Advance(10 * time.Minute)
			if sent, back := p.out(long); len(sent) != 1 || len(back) != 0 {
				t.Errorf("ten minutes later: %d packets sent, %d answers", len(sent), len(back))
			}
		})
	}
}

func changed(p []byte, i int, v byte) []byte {
	q := bytes.Clone(p)
	if q[i] == v {
		v++
	}
	q[i] = v
	return q
}

// addrEnd returns the offset of the last byte of the source address.
func addrEnd(p []byte) int {
	if p[0]>>4 == 4 {
		return 15
	}
	return 23
}

// reply sends an ICMP message to another destination.
func reply(p []byte, to netip.Addr) []byte {
	copy(p[map[byte]int{4: 16, 6: 24}[p[0]>>4]:], to.AsSlice())
	packet.FixChecksum(p)
	if p[0]>>4 == 6 {
		p[42], p[43] = 0, 0
		pseudo := packet.Sum(p[8:40], uint64(len(p)-40)+packet.ProtoICMPv6)
		binary.BigEndian.PutUint16(p[42:], ^packet.Fold(packet.Sum(p[40:], pseudo)))
	}
	return p
}

func laterFragment(wire []byte) []byte {
	l := cut(wire, 800)
	return tooBig(l[1], 600, 700)
}

// A router does not report its MTU (RFC 1191 section 5).
func TestPathMTUNotNamed(t *testing.T) {
	p := newPair(t)
	id := p.makeGroup([]layer{gcm}, gwA4, gwB4, 0)
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", id, klips.ErouteAdd)
	long := with(ip(gwA4, gwB4, 253, 1400), df)
	sent, _ := p.out(long)
	p.hears(tooBig(sent[0], 28, 0)) // the shortest quote that is allowed
	if _, back := p.out(long); len(back) != 1 || toldMTU(t, back[0]) != 970 {
		t.Errorf("reported %x, want what 1006 leaves", back)
	}
}

// A path does not change with the keys of an SA, nor with the daemon: its MTU stays known,
// for as long as it would have been (RFC 8201 section 4).
func TestPathMTUStays(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(p *pair, spec *klips.SASpec)
	}{
		{"updated", func(p *pair, spec *klips.SASpec) { p.must(p.a.UpdateSA(t.Context(), spec)) }},
		{"other ports", func(p *pair, spec *klips.SASpec) { p.must(p.a.SetPorts(t.Context(), spec.ID, 4500, 4501)) }},
		{"handed over", func(p *pair, _ *klips.SASpec) {
			p.must(p.a.KeepDevices())
			p.a = next(t, p.ha, engine.Config{Clock: p.clock}, p.a)
		}},
	} {
		p := newPair(t)
		id := klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}
		spec := &klips.SASpec{ID: id, Src: gwA4, Transform: gcm.tr, EncKey: testKey(20), NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}}
		p.must(p.a.AddSA(t.Context(), spec))
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", id, klips.ErouteAdd)
		long := with(ip(gwA4, gwB4, 253, 1370), df)
		sent, _ := p.out(long)
		if l := p.sa(p.a, id).PathMTU; len(sent) != 1 || l != 0 {
			t.Fatalf("%s: sent %x, and the path MTU %d is listed", tt.name, sent, l)
		}
		p.hears(tooBig(sent[0], 576, 1400))
		p.clock.Advance(6 * time.Minute)
		spec.EncKey = testKey(21)[1:]
		tt.change(p, spec)
		if _, back := p.out(long); len(back) != 1 || toldMTU(t, back[0]) != 1358 {
			t.Errorf("%s: reported %x, want an MTU of 1358", tt.name, back)
		}
		if l := p.sa(p.a, id).PathMTU; l != 1400 {
			t.Errorf("%s: the path MTU %d is listed, want 1400", tt.name, l)
		}
		p.clock.Advance(4 * time.Minute)
		if sent, back := p.out(long); len(sent) != 1 || len(back) != 0 {
			t.Errorf("%s, ten minutes later: %d packets sent, %d answers", tt.name, len(sent), len(back))
		}
		if l := p.sa(p.a, id).PathMTU; l != 0 {
			t.Errorf("%s, ten minutes later: the path MTU %d is listed", tt.name, l)
		}
	}
}

// FuzzHear: no ICMP message causes a panic.
func FuzzHear(f *testing.F) {
	f.Add(tooBig(ip(gwA4, gwB4, packet.ProtoESP, 40), 576, 1400))
	f.Add(tooBig(ip(gwA6, gwB6, packet.ProtoAH, 40), 576, 1400))
	f.Add(tooBig(ip(gwA6, gwB6, packet.ProtoUDP, 40), 576, 1400))
	p := newPair(f)
	f.Fuzz(func(t *testing.T, b []byte) { p.a.Hear(b) })
}

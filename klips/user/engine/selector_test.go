package engine

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// icmpError makes an ICMP error of a type from a router to the sender of packet q.
func icmpError(typ uint8, q []byte) []byte {
	var p []byte
	if q[0]>>4 == 4 {
		p = append(ipPacket(20), typ, 0, 0, 0, 0, 0, 0, 0)
		p[9] = packet.ProtoICMP
		copy(p[12:], []byte{192, 0, 2, 77})
		copy(p[16:], q[12:16])
	} else {
		p = append(make([]byte, 40), typ, 0, 0, 0, 0, 0, 0, 0)
		p[0], p[6], p[7] = 0x60, packet.ProtoICMPv6, 64
		copy(p[8:], netip.MustParseAddr("2001:db8::77").AsSlice())
		copy(p[24:], q[8:24])
	}
	p = append(p, q...)
	packet.SetTotal(p, len(p))
	return p
}

func TestAnswers(t *testing.T) {
	a4, b4 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
	a6, b6 := netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd02::1")
	// From a to b, from port 0x1234 to port 53.
	four := func(edit func(q []byte) []byte) []byte {
		q := ipPacket(28)
		q[9] = packet.ProtoUDP
		copy(q[12:], a4.AsSlice())
		copy(q[16:], b4.AsSlice())
		copy(q[20:], []byte{0x12, 0x34, 0, 53})
		if edit != nil {
			q = edit(q)
		}
		return q
	}
	six := append(make([]byte, 40), 0x12, 0x34, 0, 53, 0, 8, 0, 0)
	six[0], six[6] = 0x60, packet.ProtoUDP
	copy(six[8:], a6.AsSlice())
	copy(six[24:], b6.AsSlice())
	udp4 := eroute.Packet{Src: b4, Dst: a4, Proto: packet.ProtoUDP, SrcPort: 53, DstPort: 0x1234}
	noPorts4 := eroute.Packet{Src: b4, Dst: a4, Proto: packet.ProtoUDP}
	udp6 := eroute.Packet{Src: b6, Dst: a6, Proto: packet.ProtoUDP, SrcPort: 53, DstPort: 0x1234}
	for _, tt := range []struct {
		name string
		p    []byte
		want *eroute.Packet // nil: none
	}{
		{"unreachable", icmpError(3, four(nil)), &udp4},
		{"time exceeded", icmpError(11, four(nil)), &udp4},
		{"echo reply", icmpError(0, four(nil)), nil},
		{"with IP options", icmpError(3, four(func(q []byte) []byte {
			q[0]++
			return append(q[:20:20], append([]byte{1, 1, 1, 0}, q[20:]...)...)
		})), &udp4},
		{"with too short a length of the header", icmpError(3, four(func(q []byte) []byte { q[0] = 0x40; return q })), &udp4},
		{"a later fragment", icmpError(3, four(func(q []byte) []byte { q[7] = 9; return q })), &noPorts4},
		{"without ports", icmpError(3, four(func(q []byte) []byte { return q[:22] })), &noPorts4},
		{"a packet that is cut", icmpError(3, four(func(q []byte) []byte { return q[:19] })), nil},
		{"IPv6 in ICMP", icmpError(3, four(func(q []byte) []byte { q[0] = 0x65; return q })), nil},
		{"to another host", func() []byte { p := icmpError(3, four(nil)); p[19]++; return p }(), nil},
		{"no ICMP", four(nil), nil},
		{"too big", icmpError(2, six), &udp6},
		{"echo request", icmpError(128, six), nil},
		{"neighbour advertisement", icmpError(136, six), nil},
		{"without an ICMP header", icmpError(3, four(nil))[:24], nil},
	} {
		if tt.name == "without an ICMP header" {
			packet.SetTotal(tt.p, len(tt.p))
		}
		h, ok := packet.ParseIP(tt.p)
		if !ok {
			t.Fatalf("%s: % x is no packet", tt.name, tt.p)
		}
		got, ok := answers(tt.p, &h)
		if ok != (tt.want != nil) || ok && got != *tt.want {
			t.Errorf("%s: answers = %+v, %v, want %+v", tt.name, got, ok, tt.want)
		}
	}
}

// FuzzAnswers: an ICMP error is only for the sender of the packet that it quotes.
func FuzzAnswers(f *testing.F) {
	f.Add(icmpError(3, ipPacket(28)))
	f.Add(icmpError(3, append([]byte{0x60}, make([]byte, 47)...)))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := packet.ParseIP(p)
		if !ok {
			return
		}
		if s, ok := answers(p, &h); ok && (s.Dst != h.Dst || s.Src.Is4() != h.Src.Is4()) {
			t.Errorf("% x: answers = %+v", p, s)
		}
	})
}

// An ICMP error that matches no eroute to an SA is sent through the SA of the answers to
// the packet that it quotes, and through no other.
func TestDecideICMPError(t *testing.T) {
	tun := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x1000, Proto: klips.ProtoTun}
	other := klips.SAID{Dst: netip.MustParseAddr("192.0.2.3"), SPI: 0x1000, Proto: klips.ProtoTun}
	for _, tt := range []struct {
		name          string
		error, answer klips.SAID // eroutes for the error itself and for the answers; zero: none
		do            action
		id            klips.SAID
	}{
		{"an eroute for answers", klips.SAID{}, tun, protect, tun},
		{"and one to %pass for the error", klips.Magic(klips.SPIPass), tun, protect, tun},
		{"and one to %drop for the error", klips.Magic(klips.SPIDrop), tun, discard, klips.Magic(klips.SPIDrop)},
		{"and one to another SA for the error", other, tun, protect, other},
		{"answers in clear", klips.SAID{}, klips.Magic(klips.SPIPass), discard, klips.SAID{}},
		{"answers in clear, and the error", klips.Magic(klips.SPIPass), klips.Magic(klips.SPIPass), pass, klips.Magic(klips.SPIPass)},
		{"no eroute", klips.SAID{}, klips.SAID{}, discard, klips.SAID{}},
	} {
		e := newBare(t)
		for src, id := range map[string]klips.SAID{"192.0.2.77/32": tt.error, "10.2.0.0/16": tt.answer} {
			if id == (klips.SAID{}) {
				continue
			}
			r := klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix("10.1.0.0/16")}, ID: id}
			if err := e.SetEroute(t.Context(), r, klips.ErouteAdd); err != nil {
				t.Fatal(err)
			}
		}
		q := ipPacket(28)
		copy(q[12:], []byte{10, 1, 0, 1, 10, 2, 0, 1})
		p := icmpError(11, q)
		h, _ := packet.ParseIP(p)
		s := selector(p, &h)
		d := e.decide(p, &h, &s, e.routes.NewCache())
		var id klips.SAID
		if d.route != nil {
			id = d.route.ID
		}
		if d.do != tt.do || id != tt.id {
			t.Errorf("%s: action %d by the eroute to %v, want %d by %v", tt.name, d.do, id, tt.do, tt.id)
		}
	}
}

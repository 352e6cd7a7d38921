package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A clear packet is an unprotected packet to be sent.
type clearPacket struct {
	bytes  []byte
	whole  bool   // it is valid
	marker []byte // in its payload, and nowhere else
}

// packet makes a packet that one side sends. Most are valid.
func (w *world) packet(c *chooser, from int) (p clearPacket) {
	family := int(c.byte() % 2)
	src := choose(c, append(slices.Clone(inner[from][family]), gateways[from][family])...)
	dst := choose(c, append(slices.Clone(inner[1-from][family]), gateways[1-from][family])...)
	proto := choose(c, uint8(17), 17, 6, 253, 1, 50, 51, 4)
	payload := make([]byte, choose(c, 40, 41, 200, 1000, 0, 7, 1480, 3000))
	w.number++
	if len(payload) >= 40 {
		p.marker = fmt.Appendf(nil, "marker %08x", w.number)
		copy(payload[20:], p.marker)
	}
	if len(payload) >= 4 {
		binary.BigEndian.PutUint16(payload, choose(c, uint16(1000), 1001, 500, 4500))
		binary.BigEndian.PutUint16(payload[2:], choose(c, uint16(7), 8, 500, 4500))
	}
	var b []byte
	if family == 0 {
		b = make([]byte, 20, 20+len(payload))
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[4:], uint16(w.number))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
	} else {
		b = make([]byte, 40, 40+len(payload))
		b[0], b[6], b[7] = 0x60, proto, 64
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	}
	b = append(b, payload...)
	packet.SetTotal(b, len(b))
	packet.FixChecksum(b)
	if proto == packet.ProtoTCP && len(payload) >= 20 {
		// The receiver of a packet through a NAT recomputes this (RFC 3948 section
		// 3.1.2).
		binary.BigEndian.PutUint16(b[len(b)-len(payload)+16:], tcpChecksum(src, dst, b[len(b)-len(payload):]))
	}
	p.bytes, p.whole = b, len(payload) <= 1000
	for n := c.byte(); n >= 0xf0 && len(c.rest()) > 0 && len(p.bytes) > 0; n = c.byte() {
		p.whole = false
		if at := int(c.byte()); n < 0xf8 {
			p.bytes[at%len(p.bytes)] ^= c.byte()
		} else {
			p.bytes = p.bytes[:min(len(p.bytes), at)]
		}
	}
	return p
}

// tcpChecksum returns the checksum of a segment whose checksum field is zero (RFC 9293
// section 3.1).
func tcpChecksum(src, dst netip.Addr, segment []byte) uint16 {
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 6}, binary.BigEndian.AppendUint16(nil, uint16(len(segment))), segment, make([]byte, len(segment)%2))
	var sum uint32
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (c *chooser) rest() []byte { return *c }

// exchange sends a packet and checks the result. It returns what was sent and whether
// it was delivered.
func (w *world) exchange(t *testing.T, from int, p clearPacket) (wire [][]byte, delivered bool) {
	t.Helper()
	h, ok := packet.ParseIP(p.bytes)
	var route *klips.Eroute
	exempt := false
	var sport, dport uint16
	if ok {
		if (h.Proto == packet.ProtoTCP || h.Proto == packet.ProtoUDP) && h.FragOff == 0 && h.Total >= h.Len+4 {
			sport, dport = binary.BigEndian.Uint16(p.bytes[h.Len:]), binary.BigEndian.Uint16(p.bytes[h.Len+2:])
		}
		route = w.models[from].Match(h.Src, h.Dst, h.Proto, sport, dport)
		// Packets of the host's key daemon and stack themselves are not protected
		// again.
		own := h.Proto == packet.ProtoESP || h.Proto == packet.ProtoAH || h.Proto == packet.ProtoUDP && (sport == 500 || sport == 4500)
		exempt = own && slices.Contains(gateways[from][:], h.Src) && (route == nil || route.ID.Dst == h.Dst || route.ID.IsMagic())
	}
	w.hosts[from].Link("ipsec0").Send(p.bytes)
	w.hosts[from].Settle()
	w.hosts[1-from].Settle()
	sent := w.net.Sent()
	wire, w.seen = sent[w.seen:], len(sent)
	arrived := drain(w.hosts[1-from])
	drain(w.hosts[from]) // ICMP errors

	g, nested := w.chosen(from, h, route)
	for _, q := range wire {
		switch {
		case ok && len(q) == h.Total && bytes.Equal(q, p.bytes[:h.Total]):
			if exempt {
				continue
			}
			if route == nil || route.ID != klips.Magic(klips.SPIPass) {
				t.Fatalf("%x is sent in clear, its eroute is %+v", q, route)
			}
		case exempt, route != nil && route.ID == klips.Magic(klips.SPIPass):
			// In fragments.
		case g == nil:
			t.Fatalf("%x is sent for %x, its eroute is %+v", q, p.bytes, route)
		default:
			w.checkProtected(t, g, p, q)
		}
	}
	for _, q := range arrived {
		if nested || g != nil && !g.tunnel() && (h.Dst != g.ids[0].Dst || g.natt.Type != klips.NATTNone && !p.whole) {
			break // the inner packet is sent on from here; or its destination or checksum has changed
		}
		if !ok || len(q) > len(p.bytes) || !bytes.Equal(q, p.bytes[:len(q)]) {
			t.Fatalf("%x arrives for %x through %+v", q, p.bytes, g)
		}
	}
	if !p.whole || g == nil || nested || exempt {
		return wire, len(arrived) > 0
	}
	want := 0
	switch {
	case !g.tunnel() && (h.Src != g.src || h.Dst != g.ids[0].Dst):
		want = len(arrived) // transport mode between hosts that are not its ends
	case g.policy != nil && !admits(g.policy, h, sport, dport):
	default:
		want = 1
	}
	if len(arrived) != want {
		t.Fatalf("%x through %v (policy %+v) arrives %d times, want %d", p.bytes, g.ids, g.policy, len(arrived), want)
	}
	return wire, want == 1
}

// admits reports whether an inbound policy admits a packet.
func admits(p *klips.Selector, h packet.Header, sport, dport uint16) bool {
	return p.Src.Contains(h.Src) && p.Dst.Contains(h.Dst) && (p.Proto == 0 || p.Proto == h.Proto) &&
		(p.SrcPort == 0 || p.SrcPort == sport) && (p.DstPort == 0 || p.DstPort == dport)
}

// chosen returns the group that a packet leaves by, nil for none: that of its eroute,
// or, if the resulting packet matches an eroute to another gateway, that eroute's
// group.
func (w *world) chosen(from int, h packet.Header, r *klips.Eroute) (g *group, nested bool) {
	for range 4 {
		if r == nil || w.groups[r.ID] == nil {
			return g, nested
		}
		nested = g != nil
		g = w.groups[r.ID]
		switch first := g.ids[0]; {
		case g.tunnel():
			h.Src, h.Dst = g.src, first.Dst
		case first.Proto == klips.ProtoESP && g.natt.Type != klips.NATTNone && h.Dst.Is4() == first.Dst.Is4():
			h.Dst = first.Dst
		}
		next := w.models[from].Match(h.Src, h.Dst, uint8(g.ids[len(g.ids)-1].Proto), 0, 0)
		if next == nil || next.ID.Dst == r.ID.Dst {
			return g, nested
		}
		r = next
	}
	return nil, true
}

// checkProtected checks that a packet on the network belongs to a group.
func (w *world) checkProtected(t *testing.T, g *group, p clearPacket, q []byte) {
	t.Helper()
	if g.secret() && p.marker != nil && bytes.Contains(q, p.marker) {
		t.Fatalf("%x through %v shows what is in it: %x", p.bytes, g.ids, q)
	}
	h, ok := packet.ParseIP(q)
	outermost := g.ids[len(g.ids)-1]
	if !ok || g.tunnel() && (h.Src != g.src || h.Dst != outermost.Dst) {
		t.Fatalf("%x through %v is sent as %x", p.bytes, g.ids, q)
	}
	if h.FragOff != 0 {
		return // only the first fragment has the SA's header
	}
	body, want := q[h.Len:], uint8(outermost.Proto)
	if g.natt.Type != klips.NATTNone {
		want = packet.ProtoUDP
	}
	at := map[uint8]int{packet.ProtoESP: 0, packet.ProtoAH: 4, packet.ProtoUDP: 8}[h.Proto]
	if h.Proto != want || len(body) < at+4 || klips.SPI(binary.BigEndian.Uint32(body[at:])) != outermost.SPI {
		t.Fatalf("%x is sent as %x, which has no header of %v", p.bytes, q, outermost)
	}
}

// drain returns the packets that a host's device has received.
func drain(h *klipstest.Host) (l [][]byte) {
	for {
		select {
		case p := <-h.Link("ipsec0").Arrived():
			l = append(l, p)
		default:
			return l
		}
	}
}

// FuzzTables sends random packets both ways between two gateways whose random tables
// mirror each other. A packet that leaves is protected by its eroute's group, or the
// model lets it pass in clear. The other gateway opens what one seals. A packet that is
// changed on its way, or comes twice, does not arrive.
func FuzzTables(f *testing.F) {
	for kind := range byte(len(kinds)) {
		f.Add([]byte{0, kind, kind, 0, 2, 0, 5, 0, 0, 1, 1, 1, 6, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 9, 3})
	}
	f.Add([]byte{3, 0, 0, 1, 3, 1, 1, 6, 0, 1, 9, 0, 0, 5, 0, 5, 0, 0, 0, 0, 1, 0, 7, 3, 3, 1, 1, 0, 9, 1, 1, 1, 1, 1, 0, 0, 2, 2, 0, 3, 0, 0, 1, 0, 2, 2, 2, 2, 0, 0xf1, 3, 4})
	var w *world
	f.Cleanup(func() {
		if w != nil {
			w.close()
		}
	})
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 200 {
			t.Skip("longer than it need be")
		}
		if w != nil && w.seen > 5000 {
			w.close() // the network records all packets
			w = nil
		}
		if w == nil {
			w = newWorld(t)
		}
		c := chooser(input)
		w.fill(t, &c)
		for range 20 {
			from := int(c.byte() % 2)
			wire, delivered := w.exchange(t, from, w.packet(&c, from))
			if len(wire) == 1 && delivered {
				w.attack(t, &c, from, wire[0])
			}
			if len(c) == 0 {
				break
			}
		}
	})
}

// attack makes a packet that has arrived arrive once more, unchanged or changed.
func (w *world) attack(t *testing.T, c *chooser, from int, wire []byte) {
	t.Helper()
	q := bytes.Clone(wire)
	for n := c.byte() % 4; n > 0; n-- {
		q[int(c.byte())%len(q)] ^= c.byte()
	}
	w.hosts[1-from].Arrive(q)
	w.hosts[1-from].Settle()
	w.seen = len(w.net.Sent())
	if l := drain(w.hosts[1-from]); len(l) != 0 {
		t.Fatalf("%x arrives again as %x, through %x", wire, l, q)
	}
}

package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// bare returns a pair without a network: the test carries the packets.
func bare(t testing.TB) *pair {
	return pairOn(t, new(klipstest.Network), new(klipstest.Network), nil)
}

// sas makes SAs of one SPI on one stack, innermost first, and groups them.
func (p *pair) sas(e *engine.Engine, layers []layer, edit func(*klips.SASpec)) (ids []klips.SAID) {
	p.t.Helper()
	for i, l := range layers {
		s := &klips.SASpec{ID: klips.SAID{Dst: gwB4, SPI: klips.SPI(0x1000 + i), Proto: l.proto}, Src: gwA4, Transform: l.tr}
		enc, _ := l.tr.Enc.Info()
		auth, _ := l.tr.Auth.Info()
		if l.proto == klips.ProtoESP || l.proto == klips.ProtoAH {
			s.EncKey, s.AuthKey = testKey(enc.KeyBits[0]/8), testKey(auth.KeyBits[0]/8)
		}
		if edit != nil {
			edit(s)
		}
		p.must(e.AddSA(p.t.Context(), s))
		ids = append(ids, s.ID)
	}
	if len(ids) > 1 {
		p.must(e.Group(p.t.Context(), ids))
	}
	return ids
}

func (p *pair) sa(e *engine.Engine, id klips.SAID) klips.SA {
	p.t.Helper()
	sa, err := e.GetSA(p.t.Context(), id)
	p.must(err)
	return sa
}

func TestBareInnerLayers(t *testing.T) {
	p := bare(t)
	ids := p.sas(p.a, []layer{tun, comp}, nil)
	p.sas(p.b, []layer{tun, comp}, nil)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	sent, _ := p.out(ip(inA4, inB4, 253, 10), ip(inA4, inB4, 253, 1000))
	if len(sent) != 2 || sent[0][9] != 4 || sent[1][9] != 108 {
		t.Fatalf("sent %x", sent)
	}
	if got := p.in(sent...); len(got) != 0 {
		t.Errorf("tunnel and IPComp headers without ESP or AH around: delivered %x", got)
	}
	p.wantStats("each of them", p.b, klips.DeviceStats{RxPackets: 2, RxDropped: 2})
}

// Every layer is verified, also a layer inside a correct one.
func TestForgedInnerLayer(t *testing.T) {
	p := bare(t)
	layers := []layer{tun, tdes, ahMD5}
	ids := p.sas(p.a, layers, func(s *klips.SASpec) {
		if s.ID.Proto == klips.ProtoESP {
			s.AuthKey = bytes.Repeat([]byte{0x77}, 16)
		}
	})
	p.sas(p.b, layers, func(s *klips.SASpec) {
		if s.ID.Proto != klips.ProtoTun {
			s.Window = 32
		}
	})
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	sent, _ := p.out(ip(inA4, inB4, 253, 10))
	if got := p.in(sent...); len(got) != 0 {
		t.Errorf("delivered %x", got)
	}
	p.wantStats("it", p.b, klips.DeviceStats{RxPackets: 1, RxDropped: 1})
	esp, ah := p.sa(p.b, ids[1]), p.sa(p.b, ids[2])
	if esp.AuthErrs != 1 || esp.Seq != 0 || ah.AuthErrs != 0 || ah.Seq != 1 || ah.Life.Packets.Count != 1 {
		t.Errorf("ESP SA %+v, AH SA %+v", esp, ah)
	}
}

func TestReplayNeedsAuthentication(t *testing.T) {
	for _, c := range []struct {
		tr   klips.Transform
		want int
	}{
		{klips.Transform{Enc: alg.AES}, 3},
		{klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, 1},
	} {
		p := bare(t)
		window := func(s *klips.SASpec) { s.Window = 32 }
		ids := p.sas(p.a, []layer{{klips.ProtoESP, c.tr}}, window)
		p.sas(p.b, []layer{{klips.ProtoESP, c.tr}}, window)
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", ids[0], klips.ErouteAdd)
		sent, _ := p.out(ip(gwA4, gwB4, 253, 10))
		if got := p.in(sent[0], sent[0], sent[0]); len(got) != c.want {
			t.Errorf("%+v: the packet is taken %d times, want %d", c.tr, len(got), c.want)
		}
		sa := p.sa(p.b, ids[0])
		if int(sa.ReplayErrs) != 3-c.want || (sa.Seq != 0) != (c.want == 1) {
			t.Errorf("%+v: SA %+v", c.tr, sa)
		}
	}
}

// TestInboundChain delivers packets of one group where another group is expected.
func TestInboundChain(t *testing.T) {
	policy := klips.DeviceStats{RxPackets: 1, RxDropped: 1}
	for _, c := range []struct {
		name           string
		sent, expected []layer
		want           klips.DeviceStats
		uncheckedToo   bool // it is refused with inbound_policy_check off, too
		proto          uint8
	}{
		{"transport where a tunnel is expected", []layer{tdes}, []layer{tun, tdes}, policy, true, 0},
		{"a tunnel where transport is expected", []layer{tun, tdes}, nil, klips.DeviceStats{RxPackets: 1, RxBytes: 84}, false, 4},
		{"AH missing", []layer{tun, tdes}, []layer{tun, tdes, ahMD5}, policy, false, 253},
		// Without the check, no tun SA follows the AH SA, so the tunnel is refused.
		{"ESP missing", []layer{tun, {}, ahMD5}, []layer{tun, tdes, ahMD5}, policy, false, 4},
		{"comp unexpected", []layer{tun, tdes, comp}, nil, policy, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := bare(t)
			// The place gives the SPI, so that both ends have the same SAs.
			index := map[klips.Proto]klips.SPI{klips.ProtoTun: 0x1000, klips.ProtoESP: 0x1001, klips.ProtoAH: 0x1002, klips.ProtoComp: 0x1003}
			byProto := func(s *klips.SASpec) { s.ID.SPI = index[s.ID.Proto] }
			sent := slices.DeleteFunc(slices.Clone(c.sent), func(l layer) bool { return l.proto == 0 })
			switch c.name {
			case "comp unexpected":
				sent = []layer{tun, comp, tdes}
				p.sas(p.b, []layer{tun, tdes}, byProto)
			case "a tunnel where transport is expected":
				p.sas(p.b, []layer{tdes}, byProto)
			default:
				p.sas(p.b, c.expected, byProto)
			}
			ids := p.sas(p.a, sent, byProto)
			src, dst := inA4, inB4
			if sent[0].proto != klips.ProtoTun {
				src, dst = gwA4, gwB4
			}
			p.route(p.a, src.String()+"/32", dst.String()+"/32", ids[0], klips.ErouteAdd)
			wire, _ := p.out(ip(src, dst, 253, 64))
			if c.name == "comp unexpected" {
				wire, _ = p.out(ip(src, dst, 253, 640))
			}
			got := p.in(wire...)
			p.wantStats(c.name, p.b, c.want)
			if (len(got) > 0) != (c.want.RxDropped == 0) || len(got) > 0 && got[0][9] != c.proto {
				t.Errorf("delivered %x", got)
			}
			p.must(p.b.SetKnob("inbound_policy_check", 0))
			got = p.in(wire...)
			if (len(got) > 0) == c.uncheckedToo || len(got) > 0 && got[0][9] != c.proto {
				t.Errorf("without the check delivered %x", got)
			}
		})
	}
}

// A packet that was too short to compress has no IPComp header. A packet that was
// compressed counts in the ratio.
func TestUncompressedInbound(t *testing.T) {
	p := bare(t)
	layers := []layer{tun, comp, tdes}
	ids := p.sas(p.a, layers, nil)
	p.sas(p.b, layers, nil)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	small, large := ip(inA4, inB4, 253, 30), ip(inA4, inB4, 253, 1000)
	wire, _ := p.out(small, large)
	if got := p.in(wire...); len(got) != 2 || !bytes.Equal(got[0], small) || !bytes.Equal(got[1], large) {
		t.Fatalf("delivered %x", got)
	}
	out, in := p.sa(p.a, ids[1]), p.sa(p.b, ids[1])
	// 50 and 1020 bytes with the outer header of 20 bytes.
	if out.Uncompressed != 70+1040 || out.Compressed >= out.Uncompressed || in.Uncompressed != out.Uncompressed || in.Compressed != out.Compressed {
		t.Errorf("ratios %d:%d and %d:%d", out.Uncompressed, out.Compressed, in.Uncompressed, in.Compressed)
	}
	if n := in.Life.Packets.Count; n != 1 {
		t.Errorf("the inbound comp SA counts %d packets, want the compressed one", n)
	}
}

func TestInboundPolicyKnobs(t *testing.T) {
	p := bare(t)
	ids := p.sas(p.a, []layer{tun, tdes}, nil)
	p.sas(p.b, []layer{tun, tdes}, nil)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	wire, _ := p.out(ip(inA4, inB4, 253, 64))
	other := with(wire[0], func(q []byte) { q[15]++ }) // from another gateway
	knob := func(name string, v int) { p.must(p.b.SetKnob(name, v)) }
	try := func(what string, pkt []byte, want bool) {
		t.Helper()
		if got := p.in(pkt); (len(got) == 1) != want {
			t.Errorf("%s: delivered %x", what, got)
		}
	}
	try("no policy set", wire[0], true)
	try("another source", other, false)
	knob("inbound_policy_required", 1)
	try("a policy is required", wire[0], false)
	knob("inbound_policy_check", 0)
	try("nothing is checked", wire[0], true)
	try("nothing is checked, another source", other, true)
	knob("inbound_policy_check", 1)
	p.route(p.b, "10.1.0.0/16", "10.2.0.0/24", ids[0], klips.ErouteAddIn)
	try("within the policy", wire[0], true)
	p.route(p.b, "10.1.1.0/24", "10.2.0.0/24", ids[0], klips.ErouteReplaceIn)
	try("inner source outside", wire[0], false)
	p.route(p.b, "10.1.0.0/16", "10.2.1.0/24", ids[0], klips.ErouteReplaceIn)
	try("inner destination outside", wire[0], false)
	knob("inbound_policy_check", 0)
	try("outside, nothing is checked", wire[0], true)
	knob("inbound_policy_check", 1)
	knob("inbound_policy_required", 0)
	try("outside", wire[0], false)
	if sa := p.sa(p.b, ids[0]); sa.Life.Packets.Count < 8 {
		t.Errorf("the tun SA counts %d packets; those that a policy refuses count too", sa.Life.Packets.Count)
	}
}

// TestTransportPolicy delivers packets of groups in transport mode whose innermost SA has
// an inbound policy with ports.
func TestTransportPolicy(t *testing.T) {
	udp := func(src, dst netip.Addr, sport, dport uint16) []byte {
		p := ip(src, dst, packet.ProtoUDP, 300)
		u := p[len(p)-300:]
		binary.BigEndian.PutUint16(u, sport)
		binary.BigEndian.PutUint16(u[2:], dport)
		return p
	}
	for _, layers := range [][]layer{{tdes}, {ahMD5}, {tdes, ahMD5}, {comp, tdes}, {comp, tdes, ahMD5}} {
		for _, six := range []bool{false, true} {
			src, dst := gwA4, gwB4
			if six {
				src, dst = gwA6, gwB6
			}
			p := bare(t)
			edit := func(s *klips.SASpec) { s.ID.Dst, s.Src = dst, src }
			ids := p.sas(p.a, layers, edit)
			p.sas(p.b, layers, edit)
			host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: host(src), Dst: host(dst)}, ID: ids[0]}, klips.ErouteAdd))
			admit := func(edit func(*klips.Selector)) {
				t.Helper()
				e := klips.Eroute{Selector: klips.Selector{Src: host(src), Dst: host(dst), Proto: packet.ProtoUDP, SrcPort: 1000, DstPort: 7}, ID: ids[len(ids)-1]}
				if edit != nil {
					edit(&e.Selector)
				}
				p.must(p.b.SetEroute(t.Context(), e, klips.ErouteReplaceIn))
			}
			try := func(what string, q []byte, want bool) {
				t.Helper()
				wire, _ := p.out(q)
				before := p.stats(p.b)
				got := p.in(wire...)
				dropped := p.stats(p.b).RxDropped - before.RxDropped
				if len(wire) == 0 || (len(got) == 1) != want || want && !bytes.Equal(got[0], q) || (dropped == 1) == want {
					t.Errorf("%d SAs, destination %v, %s: sent %x, delivered %x, %d dropped", len(layers), dst, what, wire, got, dropped)
				}
			}
			good := udp(src, dst, 1000, 7)
			try("no policy", good, true)
			p.must(p.b.SetKnob("inbound_policy_required", 1))
			try("no policy where one is required", good, false)
			admit(nil)
			try("as the policy has it", good, true)
			p.must(p.b.SetKnob("inbound_policy_required", 0))
			try("as the policy has it, none required", good, true)
			try("another destination port", udp(src, dst, 1000, 9), false)
			try("another source port", udp(src, dst, 1001, 7), false)
			try("ports the wrong way round", udp(src, dst, 7, 1000), false)
			try("another protocol", with(good, func(q []byte) { protoOf(q, packet.ProtoTCP) }), false)
			try("no protocol with ports", with(good, func(q []byte) { protoOf(q, 253) }), false)
			try("a small packet", cutTo(good, len(good)-280), true)
			try("half a transport header", cutTo(good, len(good)-297), false)
			try("no transport header", cutTo(good, len(good)-300), false)
			if six {
				try("ports behind destination options", options6(good), true)
				try("other ports behind destination options", options6(udp(src, dst, 1000, 9)), false)
			}
			p.must(p.b.SetKnob("inbound_policy_check", 0))
			try("another port, nothing is checked", udp(src, dst, 1000, 9), true)
			p.must(p.b.SetKnob("inbound_policy_check", 1))
			admit(func(s *klips.Selector) { s.SrcPort, s.DstPort = 0, 0 })
			try("any port", udp(src, dst, 5, 6), true)
			try("any port, another protocol", with(good, func(q []byte) { protoOf(q, packet.ProtoTCP) }), false)
			admit(func(s *klips.Selector) {
				*s = klips.Selector{Src: netip.PrefixFrom(s.Src.Addr().Next(), s.Src.Bits()), Dst: s.Dst}
			})
			try("another source", good, false)
		}
	}
}

// A fragment other than the first has no ports, so no policy with a port admits it (RFC
// 4301 section 4.4.1.1). A policy for all ports admits it.
func TestPolicyFragments(t *testing.T) {
	p := bare(t)
	ids := p.sas(p.a, []layer{tun, tdes}, nil)
	p.sas(p.b, []layer{tun, tdes}, nil)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	first := with(ip(inA4, inB4, packet.ProtoUDP, 64), func(q []byte) { q[6] |= 0x20; copy(q[20:], []byte{3, 232, 0, 7}) })
	later := with(first, func(q []byte) { q[6], q[7] = 0, 8 })
	for _, c := range []struct {
		port  uint16
		later bool
	}{{7, false}, {0, true}} {
		e := klips.Eroute{Selector: sel("10.1.0.0/16", "10.2.0.0/16"), ID: ids[0]}
		e.Proto, e.DstPort = packet.ProtoUDP, c.port
		p.must(p.b.SetEroute(t.Context(), e, klips.ErouteReplaceIn))
		for _, f := range []struct {
			name string
			p    []byte
			want bool
		}{{"first", first, true}, {"later", later, c.later}} {
			wire, _ := p.out(f.p)
			if got := p.in(wire...); (len(got) == 1) != f.want {
				t.Errorf("the %s fragment, policy for port %d: sent %x, delivered %x", f.name, c.port, wire, got)
			}
		}
	}
}

// A policy that was set before its SA was grouped with others applies to the inner
// packets of the group.
func TestPolicyBeforeGroup(t *testing.T) {
	p := bare(t)
	layers := []layer{tun, tdes}
	ids := p.sas(p.a, layers, nil)
	for i, l := range layers {
		p.must(p.b.AddSA(t.Context(), &klips.SASpec{ID: ids[i], Src: gwA4, Transform: l.tr, EncKey: testKey(24 * i), AuthKey: testKey(16 * i)}))
	}
	p.route(p.b, "10.1.0.0/16", "10.2.0.0/24", ids[1], klips.ErouteAddIn)
	p.must(p.b.Group(t.Context(), ids))
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	for _, c := range []struct {
		dst  string
		want bool
	}{{"10.2.0.5", true}, {"10.2.1.5", false}} {
		wire, _ := p.out(ip(inA4, netip.MustParseAddr(c.dst), 253, 64))
		if got := p.in(wire...); (len(got) == 1) != c.want {
			t.Errorf("to %s: delivered %x", c.dst, got)
		}
	}
}

// protoOf sets the protocol of a packet without options or extension headers.
func protoOf(q []byte, proto uint8) {
	if q[0]>>4 == 4 {
		q[9] = proto
	} else {
		q[6] = proto
	}
}

// cutTo returns the first n bytes of a packet as a packet.
func cutTo(p []byte, n int) []byte {
	return with(p[:n], func(q []byte) { packet.SetTotal(q, n) })
}

// options6 returns an IPv6 packet with a destination options header.
func options6(p []byte) []byte {
	q := slices.Concat(p[:40], []byte{p[6], 0, 1, 4, 0, 0, 0, 0}, p[40:])
	q[6] = packet.ProtoDstOpts
	packet.SetTotal(q, len(q))
	return q
}

func TestKnobs(t *testing.T) {
	p := newPair(t)
	want := []klips.Knob{{Name: "expire_unused", Value: 1}, {Name: "icmp", Value: 1}, {Name: "ike_bypass", Value: 0}, {Name: "inbound_policy_check", Value: 1}, {Name: "inbound_policy_required", Value: 0}, {Name: "mss", Value: 0}, {Name: "mtu_rule", Value: 0}, {Name: "natt_keepalive", Value: 20}, {Name: "outbound_clear", Value: 0}, {Name: "tos", Value: 1}}
	if got := p.a.Knobs(); !slices.Equal(got, want) {
		t.Errorf("Knobs() = %v, want %v", got, want)
	}
	p.must(p.a.SetKnob("tos", 0))
	want[9].Value = 0
	if got := p.a.Knobs(); !slices.Equal(got, want) {
		t.Errorf("Knobs() = %v, want %v", got, want)
	}
	for name, v := range map[string]int{"tos": 2, "icmp": -1, "ike_bypass": 2, "natt_keepalive": 3601} {
		if err := p.a.SetKnob(name, v); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("SetKnob(%q, %d) = %v", name, v, err)
		}
	}
	if err := p.a.SetKnob("no_eroute_pass", 1); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("SetKnob of none = %v", err)
	}
}

// Which counters count packets that are not accepted.
func TestInboundErrors(t *testing.T) {
	p := bare(t)
	layers := []layer{tun, tdes, ahMD5}
	ids := p.sas(p.a, layers, nil)
	p.sas(p.b, layers, nil)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	wire, _ := p.out(ip(inA4, inB4, 253, 64))
	esp := klips.SAID{Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoESP}
	for _, e := range []*engine.Engine{p.a, p.b} {
		p.must(e.AddSA(t.Context(), &klips.SASpec{ID: esp, Src: gwA4, Transform: tdes.tr, EncKey: testKey(24), AuthKey: testKey(16)}))
	}
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", esp, klips.ErouteAdd)
	transport, _ := p.out(ip(gwA4, gwB4, 253, 64))
	cut := func(q []byte, n int) []byte {
		q = bytes.Clone(q[:n])
		packet.SetTotal(q, n)
		packet.FixChecksum(q)
		return q
	}
	dropped, failed := klips.DeviceStats{RxPackets: 1, RxDropped: 1}, klips.DeviceStats{RxPackets: 1, RxErrors: 1}
	for _, c := range []struct {
		name string
		p    []byte
		want klips.DeviceStats
	}{
		{"ESP, length not a multiple of 4", cut(transport[0], len(transport[0])-1), failed},
		{"ESP, too short for the ICV", cut(transport[0], 32), dropped},
		{"ESP, half a header", cut(transport[0], 24), dropped},
		{"ESP, a byte changed", with(transport[0], func(q []byte) { q[50]++ }), dropped},
		{"AH, another length", with(wire[0], func(q []byte) { q[21]++ }), failed},
		{"AH, no length", with(wire[0], func(q []byte) { q[21] = 0 }), failed},
		{"AH, half a header", cut(wire[0], 40), failed},
		{"no such SA", with(wire[0], func(q []byte) { q[25]++ }), dropped},
		{"half an IP header", wire[0][:10], failed},
	} {
		if got := p.in(c.p); len(got) != 0 {
			t.Errorf("%s: delivered %x", c.name, got)
		}
		p.wantStats(c.name, p.b, c.want)
	}
	// A packet on a physical device without an attachment is processed, but not
	// delivered.
	p.hb.ArriveBy(7, wire[0])
	if got := p.delivered(); len(got) != 0 {
		t.Errorf("delivered %x", got)
	}
	p.wantStats("from a device that is not attached", p.b, klips.DeviceStats{})
	if got := p.in(transport...); len(got) != 1 {
		t.Errorf("a good packet: delivered %x", got)
	}
	p.wantStats("a good packet", p.b, klips.DeviceStats{RxPackets: 1, RxBytes: 64})
}

// inside makes SAs on both stacks, and returns a function: A sends any bytes through the
// SAs as the inner packet of a tunnel.
func inside(p *pair, src, dst netip.Addr, layers ...layer) (send func(outerTOS byte, inner []byte) (wire []byte)) {
	p.t.Helper()
	edit := func(s *klips.SASpec) { s.ID.Dst, s.Src = dst, src }
	p.sas(p.b, append([]layer{tun}, layers...), edit)
	n := 0
	ids := p.sas(p.a, layers, func(s *klips.SASpec) {
		edit(s)
		s.ID.SPI = klips.SPI(0x1001 + n)
		n++
	})
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	p.must(p.a.SetEroute(p.t.Context(), klips.Eroute{Selector: klips.Selector{Src: host(src), Dst: host(dst)}, ID: ids[0]}, klips.ErouteAdd))
	return func(outerTOS byte, inner []byte) []byte {
		p.t.Helper()
		proto := uint8(packet.ProtoIPIP)
		if len(inner) > 0 && inner[0]>>4 == 6 {
			proto = packet.ProtoIPv6
		}
		q := ip(src, dst, proto, len(inner))
		copy(q[len(q)-len(inner):], inner)
		setTOS(q, outerTOS)
		wire, _ := p.out(q)
		if len(wire) != 1 {
			p.t.Fatalf("sent %x, want one packet", wire)
		}
		return wire[0]
	}
}

// setTOS sets TOS or traffic class.
func setTOS(q []byte, tos byte) {
	if q[0]>>4 == 4 {
		q[1] = tos
		packet.FixChecksum(q)
		return
	}
	q[0], q[1] = q[0]&0xf0|tos>>4, q[1]&0x0f|tos<<4
}

// An inner packet that is malformed is not delivered, and is counted.
func TestMalformedInner(t *testing.T) {
	for _, six := range []bool{false, true} {
		src, dst := gwA4, gwB4
		if six {
			src, dst = gwA6, gwB6
		}
		for _, layers := range [][]layer{{tdes}, {ahMD5}, {tdes, ahMD5}, {comp, tdes}} {
			p := bare(t)
			send := inside(p, src, dst, layers...)
			good, good6 := ip(inA4, inB4, 253, 200), ip(inA6, inB6, 253, 200)
			for _, c := range []struct {
				name  string
				inner []byte
			}{
				{"version 5", with(good, func(q []byte) { q[0] = 0x55 })},
				{"a header of 16 bytes", with(good, func(q []byte) { q[0] = 0x44 })},
				{"a header beyond the end", append([]byte{0x4f, 0, 0, 40}, good[4:40]...)},
				{"a length beyond the end", with(good, func(q []byte) { packet.SetTotal(q, 221) })},
				{"a length of 0", with(good, func(q []byte) { packet.SetTotal(q, 0) })},
				{"19 bytes", good[:19]},
				{"nothing", nil},
				{"39 bytes of IPv6", good6[:39]},
				{"an IPv6 length beyond the end", with(good6, func(q []byte) { packet.SetTotal(q, 241) })},
				{"an IPv6 extension header beyond the end", with(good6, func(q []byte) { q[6], q[41] = 0, 0xff })},
			} {
				wire := send(0, c.inner)
				p.wantStats("before", p.b, klips.DeviceStats{})
				if got := p.in(wire); len(got) != 0 {
					t.Errorf("%v, %d SAs, %s: delivered %x", dst, len(layers), c.name, got)
				}
				p.wantStats(c.name, p.b, klips.DeviceStats{RxPackets: 1, RxErrors: 1})
			}
			if got := p.in(send(0, good)); len(got) != 1 || !bytes.Equal(got[0], good) {
				t.Errorf("a good packet: delivered %x", got)
			}
			p.wantStats("a good packet", p.b, klips.DeviceStats{RxPackets: 1, RxBytes: 200})
		}
	}
}

// Dummy packets are discarded. They are no error, and count for their SA and its replay
// window (RFC 4303 section 2.6).
func TestDummies(t *testing.T) {
	window := func(s *klips.SASpec) {
		if s.ID.Proto == klips.ProtoESP || s.ID.Proto == klips.ProtoAH {
			s.Window = 32
		}
	}
	for _, six := range []bool{false, true} {
		src, dst := gwA4, gwB4
		if six {
			src, dst = gwA6, gwB6
		}
		host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
		for _, layers := range [][]layer{{tdes}, {gcm}, {ahMD5}, {tdes, ahMD5}, {comp, tdes}, {comp, gcm, ah256}} {
			for _, tunnel := range []bool{false, true} {
				p := bare(t)
				edit := func(s *klips.SASpec) { s.ID.Dst, s.Src = dst, src; window(s) }
				ids := p.sas(p.a, layers, edit)
				expected, n := layers, klips.SPI(0x1000)
				if tunnel {
					expected, n = append([]layer{tun}, layers...), 0xfff
				}
				p.sas(p.b, expected, func(s *klips.SASpec) { edit(s); s.ID.SPI += n - 0x1000 })
				p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: host(src), Dst: host(dst)}, ID: ids[0]}, klips.ErouteAdd))
				outer := ids[len(ids)-1]
				for i, size := range []int{0, 7, 100, 1000} {
					wire, _ := p.out(ip(src, dst, packet.ProtoNoNext, size))
					got := p.in(wire...)
					if sa := p.sa(p.b, outer); len(wire) != 1 || len(got) != 0 || sa.Life.Packets.Count != uint64(i+1) || sa.Seq != uint64(i+1) {
						t.Errorf("%v, %d SAs, tunnel %v, %d bytes: sent %x, delivered %x; %d packets, number %d", dst, len(layers), tunnel, size, wire, got, sa.Life.Packets.Count, sa.Seq)
					}
					p.wantStats("a dummy", p.b, klips.DeviceStats{RxPackets: 1})
					p.in(wire...)
					p.wantStats("a dummy replayed", p.b, klips.DeviceStats{RxPackets: 1, RxDropped: 1})
				}
			}
		}
	}
}

// A packet inside a tunnel may have no payload: it is no dummy packet (RFC 8200 section
// 4.7).
func TestNoDummyInTunnel(t *testing.T) {
	for _, q := range [][]byte{ip(inA4, inB4, packet.ProtoNoNext, 0), ip(inA6, inB6, packet.ProtoNoNext, 0)} {
		p := bare(t)
		if got := p.in(inside(p, gwA4, gwB4, aes)(0, q)); len(got) != 1 || !bytes.Equal(got[0], q) {
			t.Errorf("delivered %x, want %x", got, q)
		}
	}
}

// The first packet of a protocol that the host may not receive, from an SA in transport
// mode, calls Quiet once. Other packets do not call it.
func TestQuiet(t *testing.T) {
	type asked struct {
		proto uint8
		v6    bool
	}
	p := bare(t)
	for _, v := range [][2]netip.Addr{{gwA4, gwB4}, {gwA6, gwB6}} {
		for _, e := range []*engine.Engine{p.a, p.b} {
			p.sas(e, []layer{aes}, func(s *klips.SASpec) { s.ID.Dst, s.Src = v[1], v[0] })
		}
		p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: netip.PrefixFrom(v[0], v[0].BitLen()), Dst: netip.PrefixFrom(v[1], v[1].BitLen())},
			ID: klips.SAID{Dst: v[1], SPI: 0x1000, Proto: klips.ProtoESP}}, klips.ErouteAdd))
	}
	var got []asked
	p.hb.Link("ipsec0").WhenQuiet(func(proto uint8, v6 bool) error {
		got = append(got, asked{proto, v6})
		return nil
	})
	var want []asked
	for range 2 {
		for proto := range 256 {
			switch proto {
			case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoFragment, packet.ProtoDstOpts, packet.ProtoESP, packet.ProtoAH, packet.ProtoComp, packet.ProtoNoNext:
				continue // they are not the last header, or the packet is not for the host
			}
			for _, v6 := range []bool{false, true} {
				q := ip(gwA4, gwB4, uint8(proto), 40)
				if v6 {
					q = ip(gwA6, gwB6, uint8(proto), 40)
				}
				usual := proto == packet.ProtoTCP || proto == packet.ProtoUDP || !v6 && proto == packet.ProtoICMP || v6 && proto == packet.ProtoICMPv6
				if !usual && len(want) < 2*(256-8)-6 {
					want = append(want, asked{uint8(proto), v6})
				}
				wire, _ := p.out(q)
				if d := p.in(wire...); len(d) != 1 || !bytes.Equal(d[0], q) {
					t.Errorf("protocol %d: delivered %x, want %x", proto, d, q)
				}
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("asked about %v, want %v", got, want)
	}
}

// ECN marks that a router has set on the way reach the inner packet (RFC 6040 section
// 4.2).
func TestECN(t *testing.T) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	lost := -1
	table := [4][4]int{ // by inner, then by outer
		notECT: {notECT: notECT, ect0: notECT, ect1: notECT, ce: lost},
		ect0:   {notECT: ect0, ect0: ect0, ect1: ect1, ce: ce},
		ect1:   {notECT: ect1, ect0: ect1, ect1: ect1, ce: ce},
		ce:     {notECT: ce, ect0: ce, ect1: ce, ce: ce},
	}
	const dscp = 0x2e << 2
	for _, outer6 := range []bool{false, true} {
		src, dst := gwA4, gwB4
		if outer6 {
			src, dst = gwA6, gwB6
		}
		for _, layers := range [][]layer{{gcm}, {ahMD5}, {tdes, ahMD5}} {
			p := bare(t)
			send := inside(p, src, dst, layers...)
			for _, inner := range [][]byte{ip(inA4, inB4, 253, 30), ip(inA6, inB6, 253, 30)} {
				for in := range byte(4) {
					for out := range byte(4) {
						q := bytes.Clone(inner)
						setTOS(q, dscp|in)
						got := p.in(send(0x14<<2|out, q))
						if want := table[in][out]; want == lost {
							if len(got) != 0 {
								t.Errorf("codepoint %d in %d: delivered %x", in, out, got)
							}
							p.wantStats("CE for who cannot understand it", p.b, klips.DeviceStats{RxPackets: 1, RxDropped: 1})
						} else {
							setTOS(q, dscp|byte(want))
							if len(got) != 1 || !bytes.Equal(got[0], q) {
								t.Errorf("codepoint %d in %d: delivered %x, want %x", in, out, got, q)
							}
							p.wantStats("a good packet", p.b, klips.DeviceStats{RxPackets: 1, RxBytes: 30})
						}
					}
				}
			}
		}
	}
}

// If one tunnel is inside another, their headers are removed one after the other. A mark
// on the outermost header reaches the innermost packet.
func TestECNThroughTwoTunnels(t *testing.T) {
	for _, in := range []byte{0, 2} {
		p := bare(t)
		layers := []layer{tun, aes, tun, tdes}
		ids := p.sas(p.a, layers, nil)
		p.sas(p.b, layers, nil)
		p.must(p.a.SetKnob("tos", 0))
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
		q := ip(inA4, inB4, 253, 30)
		setTOS(q, in)
		wire, _ := p.out(q)
		got := p.in(with(wire[0], func(q []byte) { q[1] |= 3 }))
		setTOS(q, 3)
		if in == 0 && len(got) != 0 || in != 0 && (len(got) != 1 || !bytes.Equal(got[0], q)) {
			t.Errorf("codepoint %d marked on the way: delivered %x", in, got)
		}
	}
}

// A packet that the device refuses does not count as delivered.
func TestRefusedByDevice(t *testing.T) {
	p := bare(t)
	for _, e := range []*engine.Engine{p.a, p.b} {
		p.sas(e, []layer{tun, aes}, nil)
	}
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoTun}, klips.ErouteAdd)
	sent, _ := p.out(ip(inA4, inB4, 253, 100), ip(inA4, inB4, 253, 100), ip(inA4, inB4, 253, 100))
	p.in(sent[0])
	p.hb.Link("ipsec0").Refuse(func() error { return syscall.EIO })
	p.in(sent[1])
	p.hb.Link("ipsec0").Refuse(nil)
	if got := p.in(sent[2]); len(got) != 1 {
		t.Errorf("%d packets delivered when the device takes them again", len(got))
	}
	p.wantStats("the second refused", p.b, klips.DeviceStats{RxPackets: 3, RxBytes: 200, RxDropped: 1})
}

// If a packet was sent uncompressed, none of several comp SAs in a row has a header (RFC
// 3173 section 2.2).
func TestCompsInARow(t *testing.T) {
	for _, layers := range [][]layer{{tun, aes}, {aes}} {
		p := bare(t)
		last := len(layers) - 1
		comps := append(slices.Clone(layers[:last]), comp, comp, layers[last])
		sameSPI := func(s *klips.SASpec) {
			if s.ID.Proto == klips.ProtoESP {
				s.ID.SPI = 0x1005
			}
		}
		ids := p.sas(p.a, layers, sameSPI)
		p.sas(p.b, comps, sameSPI)
		src, dst, eroute := inA4, inB4, []string{"10.1.0.0/16", "10.2.0.0/16"}
		if last == 0 {
			src, dst, eroute = gwA4, gwB4, []string{"192.0.2.1/32", "192.0.2.2/32"}
		}
		p.route(p.a, eroute[0], eroute[1], ids[0], klips.ErouteAdd)
		want := ip(src, dst, 253, 40)
		wire, _ := p.out(want)
		if got := p.in(wire...); len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Errorf("%d SAs: delivered %x, want %x", len(layers), got, want)
		}
	}
}

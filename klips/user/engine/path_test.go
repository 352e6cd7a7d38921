package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

var (
	gwA4, gwB4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	gwA6, gwB6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	inA4, inB4 = netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5")
	inA6, inB6 = netip.MustParseAddr("2001:db8:a::5"), netip.MustParseAddr("2001:db8:b::5")
)

// pair is two hosts on one network, their stacks attached to it.
type pair struct {
	t      testing.TB
	net    *klipstest.Network
	clock  *clocktest.Clock // of both
	ha, hb *klipstest.Host
	a, b   *engine.Engine

	natt   klips.NATT // of the ESP SAs that makeGroup makes
	before map[*engine.Engine]klips.DeviceStats
}

func newPair(t testing.TB) *pair {
	n := new(klipstest.Network)
	return pairOn(t, n, n, nil)
}

// pairOn is newPair with a network for each host; p.net is the network of the first. log
// is the debug log of the first.
func pairOn(t testing.TB, na, nb *klipstest.Network, log *slog.Logger) *pair {
	p := &pair{t: t, net: na, clock: clocktest.New()}
	p.ha = klipstest.NewHost(na, []netip.Addr{gwA4, gwA6}, "eth0")
	p.hb = klipstest.NewHost(nb, []netip.Addr{gwB4, gwB6}, "eth0")
	p.a = openWith(t, p.ha, engine.Config{Clock: p.clock, Log: log})
	p.b = openWith(t, p.hb, engine.Config{Clock: p.clock})
	for _, e := range []*engine.Engine{p.a, p.b} {
		p.must(e.Attach(t.Context(), "ipsec0", "eth0"))
	}
	return p
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// A layer is one SA of a group.
type layer struct {
	proto klips.Proto
	tr    klips.Transform
}

var (
	tun   = layer{proto: klips.ProtoTun}
	comp  = layer{klips.ProtoComp, klips.Transform{Comp: alg.Deflate}}
	aes   = layer{klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA1}}
	tdes  = layer{klips.ProtoESP, klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5}}
	gcm   = layer{klips.ProtoESP, klips.Transform{Enc: alg.AESGCM}}
	ahMD5 = layer{klips.ProtoAH, klips.Transform{Auth: alg.MD5}}
	ah256 = layer{klips.ProtoAH, klips.Transform{Auth: alg.SHA256}}
)

func testKey(n int) []byte {
	k := make([]byte, n)
	for i := range k {
		k[i] = byte(7*i + 3)
	}
	return k
}

// makeGroup makes the SAs of a group from src to dst on both stacks. It makes groups of
// at most four SAs, joins them, and returns the first SA.
func (p *pair) makeGroup(layers []layer, src, dst netip.Addr, window uint32) klips.SAID {
	ids := make([]klips.SAID, len(layers))
	for i, l := range layers {
		ids[i] = klips.SAID{Dst: dst, SPI: klips.SPI(0x1000 + i), Proto: l.proto}
		spec := &klips.SASpec{ID: ids[i], Src: src, Transform: l.tr, Window: window}
		if l.proto == klips.ProtoESP || l.proto == klips.ProtoAH {
			enc, _ := l.tr.Enc.Info()
			auth, _ := l.tr.Auth.Info()
			spec.EncKey, spec.AuthKey = testKey(enc.KeyBits[0]/8), testKey(auth.KeyBits[0]/8)
			if l.proto == klips.ProtoESP {
				spec.NATT = p.natt
			}
		} else {
			spec.Window = 0
		}
		p.must(p.a.AddSA(p.t.Context(), spec))
		p.must(p.b.AddSA(p.t.Context(), spec))
	}
	for i := 1; i < len(ids); i++ {
		p.must(p.a.Group(p.t.Context(), ids[i-1:i+1]))
		p.must(p.b.Group(p.t.Context(), ids[i-1:i+1]))
	}
	return ids[0]
}

func (p *pair) route(e *engine.Engine, src, dst string, id klips.SAID, op klips.ErouteOp) {
	p.t.Helper()
	p.must(e.SetEroute(p.t.Context(), klips.Eroute{
		Selector: klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}, ID: id}, op))
}

// ip makes an IP packet with n bytes of compressible payload.
func ip(src, dst netip.Addr, proto uint8, n int) []byte {
	payload := bytes.Repeat([]byte("All good things. "), n/17+1)[:n]
	if src.Is4() {
		p := make([]byte, 20+n)
		p[0], p[8], p[9] = 0x45, 63, proto
		binary.BigEndian.PutUint16(p[4:], 0x1234)
		s, d := src.As4(), dst.As4()
		copy(p[12:], s[:])
		copy(p[16:], d[:])
		copy(p[20:], payload)
		packet.SetTotal(p, len(p))
		packet.FixChecksum(p)
		return p
	}
	p := make([]byte, 40+n)
	p[0], p[6], p[7] = 0x60, proto, 63
	s, d := src.As16(), dst.As16()
	copy(p[8:], s[:])
	copy(p[24:], d[:])
	copy(p[40:], payload)
	packet.SetTotal(p, len(p))
	return p
}

// arrives waits for a packet from a device.
func arrives(t testing.TB, h *klipstest.Host) []byte {
	t.Helper()
	select {
	case p := <-h.Link("ipsec0").Arrived():
		return p
	case <-time.After(patience):
		t.Fatal("no packet arrived")
		return nil
	}
}

// answered waits for an ICMP error. Its source must be an address of the host.
func answered(t testing.TB, h *klipstest.Host) []byte {
	t.Helper()
	select {
	case p := <-h.ICMP():
		if ih, ok := packet.ParseIP(p); !ok || !h.IsLocal(ih.Src) {
			t.Errorf("ICMP from %v, which is no address of the host", ih.Src)
		}
		return p
	case <-time.After(patience):
		t.Fatal("no ICMP error came")
		return nil
	}
}

// settled waits until a condition holds.
func settled(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (p *pair) stats(e *engine.Engine) klips.DeviceStats {
	d, err := e.Devices(p.t.Context())
	p.must(err)
	return d[0].Stats
}

func TestGroups(t *testing.T) {
	for _, g := range []struct {
		name   string
		layers []layer
		wire   []uint8 // protocols of a large packet, outermost first
	}{
		{"tun+esp", []layer{tun, aes}, []uint8{50}},
		{"tun+ah", []layer{tun, ahMD5}, []uint8{51, 4}},
		{"tun+esp+ah", []layer{tun, tdes, ahMD5}, []uint8{51, 50}},
		{"tun+comp+esp", []layer{tun, comp, aes}, []uint8{50}},
		{"tun+comp+esp+ah", []layer{tun, comp, gcm, ah256}, []uint8{51, 50}},
		{"tun+comp+ah", []layer{tun, comp, ahMD5}, []uint8{51, 108}},
		{"tun+gcm", []layer{tun, gcm}, []uint8{50}},
		{"tun+esp+tun+esp", []layer{tun, aes, tun, tdes}, []uint8{50}},
		{"tun+esp+tun+ah", []layer{tun, gcm, tun, ahMD5}, []uint8{51, 4, 50}},
		{"tun+tun+esp", []layer{tun, tun, gcm}, []uint8{50}},
	} {
		for _, f := range []struct {
			name         string
			outer, inner int
		}{{"4in4", 4, 4}, {"6in4", 4, 6}, {"4in6", 6, 4}, {"6in6", 6, 6}} {
			t.Run(g.name+"/"+f.name, func(t *testing.T) {
				p := newPair(t)
				src, dst := gwA4, gwB4
				if f.outer == 6 {
					src, dst = gwA6, gwB6
				}
				id := p.makeGroup(g.layers, src, dst, 32)
				in := [2]netip.Addr{inA4, inB4}
				nets := [2]string{"10.1.0.0/16", "10.2.0.0/16"}
				if f.inner == 6 {
					in = [2]netip.Addr{inA6, inB6}
					nets = [2]string{"2001:db8:a::/48", "2001:db8:b::/48"}
				}
				p.route(p.a, nets[0], nets[1], id, klips.ErouteAdd)
				p.route(p.b, nets[0], nets[1], id, klips.ErouteAddIn)
				for _, n := range []int{0, 1, 17, 89, 90, 200, 1000} {
					want := ip(in[0], in[1], 253, n)
					p.ha.Link("ipsec0").Send(want)
					if got := arrives(t, p.hb); !bytes.Equal(got, want) {
						t.Fatalf("%d bytes of payload arrived as\n%x, want\n%x", n, got, want)
					}
				}
				checkWire(t, p.net.Sent()[len(p.net.Sent())-1], src, dst, g.wire, f.outer)
				p.ha.Settle()
				if s := p.stats(p.a); s.TxPackets != 7 || s.TxErrors+s.TxDropped != 0 {
					t.Errorf("sender counts %+v", s)
				}
				if s := p.stats(p.b); s.RxPackets != 7 || s.RxErrors+s.RxDropped != 0 {
					t.Errorf("receiver counts %+v", s)
				}
			})
		}
	}
}

// checkWire checks the protocols of a packet up to the first encrypted one.
func checkWire(t *testing.T, p []byte, src, dst netip.Addr, protos []uint8, version int) {
	t.Helper()
	h, ok := packet.ParseIP(p)
	if !ok || h.Src != src || h.Dst != dst || int(h.Version) != version || h.TTL != 64 {
		t.Fatalf("outer header %+v of %x", h, p)
	}
	proto, rest := h.Proto, p[h.Len:]
	for i, want := range protos {
		if version == 6 && want == 4 && proto == 41 {
			want = 41
		}
		if proto != want && !(want == 4 && proto == 41) {
			t.Fatalf("layer %d is protocol %d, want %d: %x", i, proto, want, p)
		}
		switch proto {
		case 51:
			proto, rest = rest[0], rest[(int(rest[1])+2)*4:]
		case 4, 41:
			h, ok := packet.ParseIP(rest)
			if !ok {
				t.Fatalf("inner header of %x", p)
			}
			proto, rest = h.Proto, rest[h.Len:]
		}
	}
}

func TestTransportMode(t *testing.T) {
	for _, g := range [][]layer{{aes}, {ahMD5}, {ah256}, {aes, ahMD5}, {comp, aes}, {comp, gcm, ah256}} {
		for _, v := range []int{4, 6} {
			t.Run(fmt.Sprint(len(g), g[0].proto, v), func(t *testing.T) {
				p := newPair(t)
				src, dst, nets := gwA4, gwB4, [2]string{"192.0.2.1/32", "192.0.2.2/32"}
				if v == 6 {
					src, dst, nets = gwA6, gwB6, [2]string{"2001:db8::1/128", "2001:db8::2/128"}
				}
				id := p.makeGroup(g, src, dst, 64)
				p.route(p.a, nets[0], nets[1], id, klips.ErouteAdd)
				for _, n := range []int{0, 30, 400} {
					want := ip(src, dst, 253, n)
					p.ha.Link("ipsec0").Send(want)
					if got := arrives(t, p.hb); !bytes.Equal(got, want) {
						t.Fatalf("%d bytes of payload arrived as\n%x, want\n%x", n, got, want)
					}
				}
			})
		}
	}
}

// An AH SA that aligns its header to 8 bytes and one that does not cannot work together.
// A packet has the calculated length.
func TestAlign8(t *testing.T) {
	for _, layers := range [][]layer{{ah256}, {tun, ah256}, {aes, ah256}} {
		for _, sender := range []bool{false, true} {
			p := bare(t)
			align := func(on bool) func(*klips.SASpec) {
				return func(s *klips.SASpec) { s.Align8 = on && s.ID.Proto == klips.ProtoAH }
			}
			ids := p.sas(p.a, layers, align(sender))
			p.sas(p.b, layers, align(!sender))
			src, dst := gwA4, gwB4
			if len(layers) == 2 && layers[0] == tun {
				src, dst = inA4, inB4
			}
			p.route(p.a, src.String()+"/32", dst.String()+"/32", ids[0], klips.ErouteAdd)
			want := ip(src, dst, 253, 80)
			wire, _ := p.out(want)
			if len(wire) != 1 || wire[0][9] != packet.ProtoAH {
				t.Fatalf("sent %x, want one AH packet", wire)
			}
			if n := int(wire[0][21]+2) * 4; n != map[bool]int{false: 28, true: 32}[sender] {
				t.Errorf("%d SAs, padded %v: AH has %d bytes", len(layers), sender, n)
			}
			if got := p.in(wire...); len(got) != 1 || !bytes.Equal(got[0], want) {
				t.Errorf("%d SAs, padded %v: delivered %x, want %x", len(layers), sender, got, want)
			}
			if sa := p.sa(p.a, ids[len(ids)-1]); sa.Align8 != sender {
				t.Errorf("the SA is listed with Align8 %v, want %v", sa.Align8, sender)
			}
		}
	}
}

func TestInboundRefusals(t *testing.T) {
	p := newPair(t)
	id := p.makeGroup([]layer{tun, tdes, ahMD5}, gwA4, gwB4, 64)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
	p.route(p.b, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAddIn)
	p.ha.Link("ipsec0").Send(ip(inA4, inB4, 253, 100))
	arrives(t, p.hb)
	good := p.net.Sent()[0]
	change := func(f func(q []byte)) []byte {
		q := bytes.Clone(good)
		f(q)
		packet.FixChecksum(q)
		return q
	}
	// Without AH the rest must be refused: its SA is not the first of the group.
	bare := change(func(q []byte) { q[9] = 50 })
	bare = append(bare[:20:20], bare[44:]...)
	packet.SetTotal(bare, len(bare))
	packet.FixChecksum(bare)
	for _, c := range []struct {
		name string
		p    []byte
	}{
		{"replayed", good},
		{"forged", change(func(q []byte) { q[31]++; q[len(q)-20]++ })},
		{"unknown SPI", change(func(q []byte) { q[24]++ })},
		{"other source", change(func(q []byte) { q[15]++ })},
		{"AH missing", bare},
	} {
		before := p.stats(p.b)
		p.hb.Arrive(c.p)
		settled(t, c.name+" is counted", func() bool { return p.stats(p.b).RxDropped > before.RxDropped })
	}
	// The inner addresses do not match the inbound policy: only the sender has the
	// eroute.
	p.route(p.a, "10.9.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
	before := p.stats(p.b)
	p.ha.Link("ipsec0").Send(ip(netip.MustParseAddr("10.9.0.1"), inB4, 253, 100))
	settled(t, "wrong inner source is counted", func() bool { return p.stats(p.b).RxDropped > before.RxDropped })
	for _, n := range []int{0, 1, 19, 20, 23, 24, 43, 44, 50, len(good) - 1} {
		q := bytes.Clone(good[:n])
		if n >= 20 {
			packet.SetTotal(q, n)
		}
		p.hb.Arrive(q)
	}
	// After all that a correct packet is still accepted, and no other was.
	want := ip(inA4, inB4, 253, 64)
	p.ha.Link("ipsec0").Send(want)
	if got := arrives(t, p.hb); !bytes.Equal(got, want) {
		t.Errorf("arrived %x, want %x", got, want)
	}
	sa, err := p.b.GetSA(t.Context(), klips.SAID{Dst: gwB4, SPI: 0x1002, Proto: klips.ProtoAH})
	if err != nil || sa.AuthErrs == 0 || sa.ReplayErrs == 0 {
		t.Errorf("AH SA counts %d auth errors, %d replays, %v", sa.AuthErrs, sa.ReplayErrs, err)
	}
}

func TestVerdicts(t *testing.T) {
	p := newPair(t)
	link := p.ha.Link("ipsec0")
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIPass), klips.ErouteAdd)
	p.route(p.a, "10.1.0.0/16", "10.3.0.0/16", klips.Magic(klips.SPIDrop), klips.ErouteAdd)
	p.route(p.a, "10.1.0.0/16", "10.4.0.0/16", klips.Magic(klips.SPIReject), klips.ErouteAdd)
	p.route(p.a, "2001:db8:a::/48", "2001:db8:b::/48", klips.Magic(klips.SPIReject), klips.ErouteAdd)

	clear := ip(inA4, inB4, 253, 50)
	link.Send(clear)
	settled(t, "%pass is sent", func() bool { return len(p.net.Sent()) == 1 })
	if !bytes.Equal(p.net.Sent()[0], clear) {
		t.Errorf("%%pass sent %x, want %x", p.net.Sent()[0], clear)
	}
	for _, dst := range []string{"10.3.0.1", "10.5.0.1"} { // %drop, no eroute
		before := p.stats(p.a)
		link.Send(ip(inA4, netip.MustParseAddr(dst), 253, 50))
		settled(t, dst+" is dropped", func() bool { return p.stats(p.a).TxDropped == before.TxDropped+1 })
	}
	rejected := ip(inA4, netip.MustParseAddr("10.4.0.1"), 17, 50)
	link.Send(rejected)
	got := answered(t, p.ha)
	h, ok := packet.ParseIP(got)
	if !ok || h.Proto != 1 || h.Dst != inA4 || got[20] != 3 || got[21] != 13 || !bytes.HasPrefix(got[28:], rejected) ||
		packet.Fold(packet.Sum(got[20:], 0)) != 0xffff || packet.Fold(packet.Sum(got[:20], 0)) != 0xffff {
		t.Errorf("%%reject answered %x", got)
	}
	link.Send(ip(inA6, inB6, 17, 50))
	got = answered(t, p.ha)
	if h, ok := packet.ParseIP(got); !ok || h.Proto != 58 || h.Dst != inA6 || got[40] != 1 || got[41] != 1 {
		t.Errorf("%%reject answered %x", got)
	}
	// IKE of the host is sent with and without an eroute; IKE of other hosts is not.
	ike := func(src netip.Addr) []byte {
		q := ip(src, gwB4, 17, 50)
		binary.BigEndian.PutUint16(q[20:], 500)
		return q
	}
	link.Send(ike(gwA4))
	settled(t, "IKE passes", func() bool { return len(p.net.Sent()) == 2 })
	before := p.stats(p.a)
	link.Send(ike(inA4))
	settled(t, "foreign IKE is dropped", func() bool { return p.stats(p.a).TxDropped == before.TxDropped+1 })
	counts := map[string]uint64{}
	l, _ := p.a.Eroutes(t.Context())
	for _, r := range l {
		counts[r.Dst.String()] = r.Packets
	}
	if counts["10.2.0.0/16"] != 1 || counts["10.3.0.0/16"] != 1 || counts["10.4.0.0/16"] != 1 {
		t.Errorf("eroutes count %v", counts)
	}
}

func TestTooBig(t *testing.T) {
	p := newPair(t)
	id := p.makeGroup([]layer{tun, tdes}, gwA4, gwB4, 0)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
	p.route(p.a, "2001:db8:a::/48", "2001:db8:b::/48", id, klips.ErouteAdd)
	link := p.ha.Link("ipsec0")
	want := ip(inA4, inB4, 253, 1480) // 1500 bytes
	want[6] |= 0x40                   // DF
	packet.FixChecksum(want)
	link.Send(want)
	got := answered(t, p.ha)
	if got[20] != 3 || got[21] != 4 || binary.BigEndian.Uint16(got[26:]) != 1446 {
		t.Errorf("answered type %d code %d mtu %d, want 3/4 1446", got[20], got[21], binary.BigEndian.Uint16(got[26:]))
	}
	// It is sent anyway, in fragments that reassemble to a correct packet.
	settled(t, "two fragments", func() bool { return len(p.net.Sent()) == 2 })
	p.hb.Arrive(reassemble(t, p.net.Sent()))
	if got := arrives(t, p.hb); !bytes.Equal(got, want) {
		t.Errorf("arrived %x, want %x", got, want)
	}
	link.Send(ip(inA6, inB6, 253, 1460))
	got = answered(t, p.ha)
	if got[40] != 2 || binary.BigEndian.Uint32(got[44:]) != 1446 {
		t.Errorf("answered type %d mtu %d, want 2 1446", got[40], binary.BigEndian.Uint32(got[44:]))
	}
	if n := len(p.net.Sent()); n != 2 {
		t.Errorf("%d packets sent, want 2: a long IPv6 packet stays behind", n)
	}
}

// reassemble joins IPv4 fragments given in order.
func reassemble(t *testing.T, frags [][]byte) []byte {
	t.Helper()
	var whole []byte
	for i, f := range frags {
		h, ok := packet.ParseIP(f)
		if !ok || len(f) > 1500 || !h.Frag || h.FragOff != max(0, len(whole)-20) {
			t.Fatalf("fragment %d: %+v, %d bytes", i, h, len(f))
		}
		if i == 0 {
			whole = append(whole, f[:20]...)
		}
		whole = append(whole, f[h.Len:]...)
	}
	whole[6], whole[7] = 0, 0
	packet.SetTotal(whole, len(whole))
	packet.FixChecksum(whole)
	return whole
}

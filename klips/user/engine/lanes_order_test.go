package engine_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// flows is how many flows the tests of lanes have, each with a group of its own.
const flows = 8

// newLanesPair makes a pair whose engines have three lanes, and a group of esp and ah in a
// tunnel for each flow from 10.1.0.N to 10.2.0.N.
func newLanesPair(t *testing.T) *pair {
	n := new(klipstest.Network)
	p := &pair{t: t, net: n, clock: clocktest.New()}
	p.ha = klipstest.NewHost(n, []netip.Addr{gwA4, gwA6}, "eth0")
	p.hb = klipstest.NewHost(n, []netip.Addr{gwB4, gwB6}, "eth0")
	for h, e := range map[*klipstest.Host]**engine.Engine{p.ha: &p.a, p.hb: &p.b} {
		*e = openWith(t, h, engine.Config{Clock: p.clock, Lanes: 3})
		p.must((*e).Attach(t.Context(), "ipsec0", "eth0"))
	}
	for i := range flows {
		ids := []klips.SAID{flowSA(i, klips.ProtoTun), flowSA(i, klips.ProtoESP), flowSA(i, klips.ProtoAH)}
		for _, e := range []*engine.Engine{p.a, p.b} {
			p.must(e.AddSA(t.Context(), &klips.SASpec{ID: ids[0], Src: gwA4}))
			p.must(e.AddSA(t.Context(), &klips.SASpec{ID: ids[1], Src: gwA4, Transform: gcm.tr, EncKey: testKey(20 + i)[i:], Window: 32}))
			p.must(e.AddSA(t.Context(), &klips.SASpec{ID: ids[2], Src: gwA4, Transform: ahMD5.tr, AuthKey: testKey(16 + i)[i:], Window: 32}))
			p.must(e.Group(t.Context(), ids))
		}
		p.route(p.a, fmt.Sprintf("10.1.0.%d/32", i), fmt.Sprintf("10.2.0.%d/32", i), ids[0], klips.ErouteAdd)
	}
	return p
}

func flowSA(flow int, proto klips.Proto) klips.SAID {
	return klips.SAID{Dst: gwB4, SPI: klips.SPI(0x1000 + flow), Proto: proto}
}

// numbered returns a packet of a flow with a number.
func numbered(flow, number int) []byte {
	p := ip(netip.AddrFrom4([4]byte{10, 1, 0, byte(flow)}), netip.AddrFrom4([4]byte{10, 2, 0, byte(flow)}), packet.ProtoUDP, 100)
	binary.BigEndian.PutUint32(p[28:], uint32(number))
	return p
}

// sendNumbers sends the packets with numbers from first of each flow, in turns, and checks
// that all arrive in the order of their flow.
func (p *pair) sendNumbers(first, n int) {
	p.t.Helper()
	var next [flows]int
	const ahead = 100 // packets that have not arrived
	for sent, arrived := 0, 0; arrived < n*flows; arrived++ {
		for ; sent < n*flows && sent < arrived+ahead; sent++ {
			p.ha.Link("ipsec0").Send(numbered(sent%flows, first+sent/flows))
		}
		got := arrives(p.t, p.hb)
		flow := int(got[19])
		if number := int(binary.BigEndian.Uint32(got[28:])); number != first+next[flow] {
			p.t.Fatalf("packet %d of flow %d arrived, want %d", number, flow, first+next[flow])
		}
		next[flow]++
	}
}

// wantNoneLate checks that no packet was late by more than the window of its SA, and that
// none was dropped.
func (p *pair) wantNoneLate() {
	p.t.Helper()
	sas, err := p.b.SAs(p.t.Context())
	p.must(err)
	for _, sa := range sas {
		if sa.ReplayErrs != 0 || len(sa.Drops) != 0 {
			p.t.Errorf("%v: %d packets outside of the window, dropped %v", sa.ID, sa.ReplayErrs, sa.Drops)
		}
	}
}

// The packets of eight SAs in three lanes arrive in order, and none is late.
func TestLanesKeepOrder(t *testing.T) {
	p := newLanesPair(t)
	p.sendNumbers(0, 500)
	p.wantNoneLate()
}

// The groups change while SAs have lanes: SAs that were in different lanes come into one
// group, and packets arrive in order again.
func TestLanesOfNewGroups(t *testing.T) {
	p := newLanesPair(t)
	p.sendNumbers(0, 20)
	for round := 1; round < 4; round++ {
		for i := range flows {
			for _, e := range []*engine.Engine{p.a, p.b} {
				p.must(e.Ungroup(t.Context(), flowSA(i, klips.ProtoTun)))
			}
		}
		for i := range flows {
			for _, e := range []*engine.Engine{p.a, p.b} {
				p.must(e.Group(t.Context(), []klips.SAID{flowSA((i+round)%flows, klips.ProtoTun), flowSA(i, klips.ProtoESP), flowSA(i, klips.ProtoAH)}))
			}
		}
		p.sendNumbers(20*round, 20)
		p.wantNoneLate()
	}
}

// Without inbound_policy_check the packets of all SAs arrive, too, and with it again.
func TestLanesWithoutCheck(t *testing.T) {
	p := newLanesPair(t)
	for i := range 6 {
		p.must(p.b.SetKnobs(map[string]int{"inbound_policy_check": (i + 1) % 2}))
		p.sendNumbers(20*i, 20)
	}
	p.wantNoneLate()
}

// Packets of several SAs become packets of one SA, by an eroute to another gateway. They
// leave in the order of its numbers when each of those SAs has sent a packet.
func TestLanesOfNestedTunnels(t *testing.T) {
	p := newLanesPair(t)
	outer := klips.SAID{Dst: netip.MustParseAddr("192.0.2.50"), SPI: 0x2000, Proto: klips.ProtoESP}
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: outer, Src: gwA4, Transform: gcm.tr, EncKey: testKey(40)[20:]}))
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", outer, klips.ErouteAdd)
	send := func(n int) (sent [][]byte) {
		p.net.Forget()
		for i := range n * flows {
			p.ha.Link("ipsec0").Send(numbered(i%flows, i/flows))
		}
		settled(t, "all packets have left", func() bool { return len(p.net.Sent()) == n*flows })
		return p.net.Sent()
	}
	send(1)
	last := uint32(flows)
	for _, s := range send(50) {
		h, ok := packet.ParseIP(s)
		if !ok || h.Proto != packet.ProtoESP || klips.SPI(binary.BigEndian.Uint32(s[h.Len:])) != outer.SPI {
			t.Fatalf("% x left", s)
		}
		if seq := binary.BigEndian.Uint32(s[h.Len+4:]); seq != last+1 {
			t.Fatalf("number %d left after %d", seq, last)
		}
		last++
	}
}

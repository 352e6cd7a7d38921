package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// spread makes n groups from src to dst on both stacks, and on from an eroute that spreads
// packets over them. Group i has the SPI 0x2000+i on the wire. The groups of an odd i have
// AH, too.
func (p *pair) spread(from *engine.Engine, s klips.Selector, src, dst netip.Addr, n int) (r klips.Eroute) {
	p.t.Helper()
	r.Selector = s
	for i := range n {
		spi := klips.SPI(i)
		key := testKey(20)
		key[0], key[1] = byte(i), byte(dst.AsSlice()[3])
		specs := []*klips.SASpec{
			{ID: klips.SAID{Dst: dst, SPI: 0x1000 + spi, Proto: klips.ProtoTun}, Src: src},
			{ID: klips.SAID{Dst: dst, SPI: 0x2000 + spi, Proto: klips.ProtoESP}, Src: src, Transform: gcm.tr, EncKey: key, Window: 64},
		}
		if i%2 == 1 {
			specs = append(specs, &klips.SASpec{ID: klips.SAID{Dst: dst, SPI: 0x2000 + spi, Proto: klips.ProtoAH}, Src: src, Transform: ah256.tr, AuthKey: testKey(32), Window: 64})
		}
		for _, e := range []*engine.Engine{p.a, p.b} {
			var ids []klips.SAID
			for _, s := range specs {
				p.must(e.AddSA(p.t.Context(), s))
				ids = append(ids, s.ID)
			}
			p.must(e.Group(p.t.Context(), ids))
		}
		if i == 0 {
			r.ID = specs[0].ID
		} else {
			r.Also = append(r.Also, specs[0].ID)
		}
	}
	p.must(from.SetEroute(p.t.Context(), r, klips.ErouteAdd))
	return r
}

// group returns which group of spread made a packet.
func group(t testing.TB, p []byte) int {
	t.Helper()
	h, ok := packet.ParseIP(p)
	at := h.Len
	if ok && h.Proto == packet.ProtoAH {
		at += 4
	}
	spi := int(binary.BigEndian.Uint32(p[at:])) - 0x2000
	if !ok || h.Proto != packet.ProtoAH && h.Proto != packet.ProtoESP || spi < 0 || spi > klips.MaxAlso {
		t.Fatalf("sent %x, which no group has made", p)
	}
	return spi
}

// flowOf returns a UDP datagram of a flow.
func flowOf(src, dst netip.Addr, port, n int) []byte {
	p := udpWith(src, dst, n)
	u := p[len(p)-8-n:]
	binary.BigEndian.PutUint16(u, uint16(port))
	u[6], u[7] = 0, 0
	return p
}

// The packets of an eroute are spread over its SAs, and each flow stays with one of them.
// The first SA takes the packets of a further one that is gone. Nothing leaves in clear.
func TestChoose(t *testing.T) {
	const groups, flows = 4, 64
	for _, in := range [][2]netip.Addr{{inA4, inB4}, {inA6, inB6}} {
		for _, gw := range [][2]netip.Addr{{gwA4, gwB4}, {gwA6, gwB6}} {
			t.Run(fmt.Sprint(in[1], " by ", gw[1]), func(t *testing.T) {
				p := bare(t)
				s := klips.Selector{Src: netip.PrefixFrom(in[0], in[0].BitLen()/2).Masked(), Dst: netip.PrefixFrom(in[1], in[1].BitLen()/2).Masked()}
				r := p.spread(p.a, s, gw[0], gw[1], groups)
				var pkts [][]byte
				for i := range flows {
					pkts = append(pkts, flowOf(in[0], in[1], 20000+i, 50))
				}
				// by returns which group each flow has.
				by := func() (by []int) {
					t.Helper()
					sent, _ := p.out(pkts...)
					if len(sent) != flows {
						t.Fatalf("%d packets were sent, want %d", len(sent), flows)
					}
					for _, s := range sent {
						by = append(by, group(t, s))
					}
					got := p.in(sent...)
					if len(got) != flows {
						t.Fatalf("%d packets were delivered, want %d", len(got), flows)
					}
					for i := range got {
						if !bytes.Equal(got[i], pkts[i]) {
							t.Fatalf("delivered %x, want %x", got[i], pkts[i])
						}
					}
					return by
				}
				before := by()
				for i := range groups {
					if n := count(before, i); n < flows/groups/4 {
						t.Errorf("group %d has %d of %d flows: %v", i, n, flows, before)
					}
				}
				if again := by(); !slices.Equal(again, before) {
					t.Errorf("the groups of the flows are %v, and were %v", again, before)
				}

				// A further SA is removed: the first group has its flows.
				p.must(p.a.DeleteSA(t.Context(), r.Also[1]))
				now := by()
				for i, g := range before {
					if g == 2 {
						g = 0
					}
					if now[i] != g {
						t.Errorf("without group 2, a flow of group %d has group %d", before[i], now[i])
					}
				}
				// The first one is removed: its flows are dropped, and those that it had taken.
				p.must(p.a.DeleteSA(t.Context(), r.ID))
				sent, _ := p.out(pkts...)
				left := count(now, 1) + count(now, 3)
				if n := p.drops(p.a)[drop.NoSA.String()]; len(sent) != left || n != uint64(flows-left) {
					t.Errorf("without group 0, %d packets were sent, want %d; %d had no SA", len(sent), left, n)
				}
				for _, s := range sent {
					if g := group(t, s); g != 1 && g != 3 {
						t.Errorf("without group 0, group %d sent a packet", g)
					}
				}
			})
		}
	}
}

func count(l []int, x int) (n int) {
	for _, y := range l {
		if y == x {
			n++
		}
	}
	return n
}

// All fragments of a datagram have one SA, also the first one, which has the ports.
func TestChooseForFragments(t *testing.T) {
	p := bare(t)
	p.spread(p.a, sel("10.1.0.0/16", "10.2.0.0/16"), gwA4, gwB4, 16)
	for i := range 20 {
		frags := cut(flowOf(inA4, inB4, 20000+i, 3000), 1000)
		sent := p.outPieces(frags...)
		if len(sent) != len(frags) || len(frags) < 3 {
			t.Fatalf("of %d fragments %d packets were made", len(frags), len(sent))
		}
		for _, s := range sent {
			if g := group(t, s); g != group(t, sent[0]) {
				t.Errorf("flow %d: fragments have the groups %d and %d", i, group(t, sent[0]), g)
			}
		}
	}
}

// The first SA takes the packets of a further one that has no keys yet.
func TestChooseLarval(t *testing.T) {
	p := newPair(t)
	first := klips.SAID{Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoESP}
	larval := klips.SAID{Dst: gwB4, SPI: 0x2001, Proto: klips.ProtoESP}
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: first, Src: gwA4, Transform: aes.tr, EncKey: testKey(16), AuthKey: testKey(20)}))
	_, err := p.a.ReserveSA(t.Context(), larval, gwA4, larval.SPI, larval.SPI)
	p.must(err)
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: sel("192.0.2.1/32", "192.0.2.2/32"), ID: first, Also: []klips.SAID{larval}}, klips.ErouteAdd))
	var pkts [][]byte
	for i := range 20 {
		pkts = append(pkts, flowOf(gwA4, gwB4, 20000+i, 50))
	}
	sent, _ := p.out(pkts...)
	if len(sent) != len(pkts) {
		t.Errorf("%d packets were sent, want %d", len(sent), len(pkts))
	}
	for _, s := range sent {
		if g := group(t, s); g != 0 {
			t.Errorf("a larval SA has sent %x", s)
		}
	}
	p.must(p.a.UpdateSA(t.Context(), &klips.SASpec{ID: larval, Src: gwA4, Transform: aes.tr, EncKey: testKey(16), AuthKey: testKey(20)}))
	sent, _ = p.out(pkts...)
	if !slices.ContainsFunc(sent, func(s []byte) bool { return group(t, s) == 1 }) {
		t.Error("the SA has sent nothing after it got its keys")
	}
}

// A datagram of the host that goes into its tunnel in pieces has one SA for all of them.
func TestChooseForPieces(t *testing.T) {
	p := bare(t)
	p.spread(p.a, sel("192.0.2.1/32", "10.2.0.0/16"), gwA4, gwB4, 16)
	for i := range 5 {
		sent := p.outPieces(cut(flowOf(gwA4, inB4, 20000+i, 65460), 1400)...)
		if len(sent) < 40 {
			t.Fatalf("%d packets were sent", len(sent))
		}
		for _, s := range sent {
			if g := group(t, s); g != group(t, sent[0]) {
				t.Fatalf("flow %d: pieces have the groups %d and %d", i, group(t, sent[0]), g)
			}
		}
	}
}

// A protected packet that matches the eroute of another gateway is spread over its SAs, too.
func TestChooseNested(t *testing.T) {
	p := bare(t)
	far := netip.MustParseAddr("192.0.2.3")
	p.spread(p.a, sel("192.0.2.1/32", "192.0.2.2/32"), gwA4, far, 3)
	p.spread(p.a, sel("10.1.0.0/16", "10.2.0.0/16"), gwA4, gwB4, 2)
	groups := map[int]bool{}
	for i := range 20 {
		sent, _ := p.out(flowOf(inA4, inB4, 20000+i, 50))
		if len(sent) != 1 || packet.Dst(sent[0]) != far {
			t.Fatalf("sent %x, want one packet to %v", sent, far)
		}
		groups[group(t, sent[0])] = true
	}
	// The protected packets are two flows, ESP and AH between the gateways.
	if len(groups) > 2 {
		t.Errorf("the groups of two flows are %v", groups)
	}
}

// The MSS of a SYN fits the group of its flow, and where it arrives, the group of the flow
// of its answers.
func TestChooseMSS(t *testing.T) {
	sizes := [2]int{1446 - 40, 1418 - 40} // of segments in ESP, and in ESP and AH
	p := newPair(t)
	p.spread(p.a, sel("10.1.0.0/16", "10.2.0.0/16"), gwA4, gwB4, 4)
	p.spread(p.b, sel("10.2.0.0/16", "10.1.0.0/16"), gwB4, gwA4, 4)
	seen := map[int]bool{}
	for i := range 20 {
		for _, clamps := range []*engine.Engine{p.a, p.b} {
			p.must(p.a.SetKnob("mss", 0))
			p.must(p.b.SetKnob("mss", 0))
			p.must(clamps.SetKnob("mss", 1))
			s := syn(inA4, inB4)
			binary.BigEndian.PutUint16(s[20:], uint16(20000+i))
			sent, _ := p.out(s)
			got := arrives(t, p.hb)
			by := group(t, sent[0])
			if clamps == p.b {
				back := flowOf(inB4, inA4, 80, 30)
				back[9] = packet.ProtoTCP
				binary.BigEndian.PutUint16(back[22:], uint16(20000+i))
				packet.FixChecksum(back)
				n := len(p.net.Sent())
				p.hb.Link("ipsec0").Send(back)
				arrives(t, p.ha)
				by = group(t, p.net.Sent()[n])
			}
			seen[by] = true
			if mss := int(binary.BigEndian.Uint16(got[42:])); mss != sizes[by%2] {
				t.Errorf("the MSS is %d, want %d, which fits group %d", mss, sizes[by%2], by)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("the SYNs had the groups %v", seen)
	}
}

package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// both makes SAs of one SPI on both stacks, groups them, and adds an eroute of A to them.
// edit changes the SAs of B; it may be nil.
func (p *pair) both(layers []layer, edit func(*klips.SASpec)) []klips.SAID {
	p.t.Helper()
	window := func(s *klips.SASpec) {
		if s.ID.Proto == klips.ProtoESP || s.ID.Proto == klips.ProtoAH {
			s.Window = 32
		}
	}
	ids := p.sas(p.a, layers, window)
	p.sas(p.b, layers, func(s *klips.SASpec) {
		window(s)
		if edit != nil {
			edit(s)
		}
	})
	if layers[0].proto == klips.ProtoTun {
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	} else {
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", ids[0], klips.ErouteAdd)
	}
	return ids
}

// shunt adds an eroute of A with a shunt, and sends a packet to it n times.
func (p *pair) shunt(spi klips.SPI, n int) {
	p.t.Helper()
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(spi), klips.ErouteAdd)
	for range n {
		p.out(ip(inA4, inB4, 253, 50))
	}
}

// wire returns a packet as A sends it through both's SAs.
func (p *pair) wire() []byte {
	p.t.Helper()
	src, dst := inA4, inB4
	l, err := p.a.Eroutes(p.t.Context())
	p.must(err)
	if l[0].Src.Contains(gwA4) {
		src, dst = gwA4, gwB4
	}
	sent, _ := p.out(ip(src, dst, 253, 64))
	if len(sent) != 1 {
		p.t.Fatalf("sent %x, want one packet", sent)
	}
	return sent[0]
}

// dropCases make one packet or n packets be dropped for each reason. do returns the SA
// that causes the drop: an SA on B, or an outbound SA on A; the zero SAID: none.
var dropCases = []struct {
	why drop.Reason
	n   uint64 // 0: 1
	do  func(p *pair) klips.SAID
}{
	{drop.BadPacket, 0, func(p *pair) (none klips.SAID) { p.out([]byte{0, 1, 2}); return }},
	{drop.BadPacket, 0, func(p *pair) (none klips.SAID) { p.in([]byte{0x45, 1, 2}); return }},
	{drop.BadPacket, 0, func(p *pair) (none klips.SAID) { // not a multiple of 4 bytes
		p.both([]layer{aes}, nil)
		q := p.wire()
		p.in(cutTo(q, len(q)-1))
		return
	}},
	{drop.BadPacket, 0, func(p *pair) klips.SAID { // an ICV of another length
		ids := p.both([]layer{ahMD5}, nil)
		p.in(with(p.wire(), func(q []byte) { q[21]++ }))
		return ids[0]
	}},
	{drop.NoSA, 0, func(p *pair) (none klips.SAID) {
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.SAID{Dst: gwB4, SPI: 0x999, Proto: klips.ProtoTun}, klips.ErouteAdd)
		p.out(ip(inA4, inB4, 253, 50))
		return
	}},
	{drop.NoSA, 0, func(p *pair) (none klips.SAID) {
		ids := p.both([]layer{aes}, nil)
		p.must(p.b.DeleteSA(p.t.Context(), ids[0]))
		p.in(p.wire())
		return
	}},
	{drop.NoSA, 0, func(p *pair) (none klips.SAID) { // in UDP, to a port that is not for IKE only
		p.nattSA(klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}, gwA4, klips.NATT{Type: klips.NATTNonESP})
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}, klips.ErouteAdd)
		p.must(p.b.ClearSAs(p.t.Context()))
		p.in(p.wire())
		return
	}},
	{drop.NotUsable, 0, func(p *pair) klips.SAID {
		id := klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}
		_, err := p.a.ReserveSA(p.t.Context(), id, gwA4, id.SPI, id.SPI)
		p.must(err)
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", id, klips.ErouteAdd)
		p.out(ip(gwA4, gwB4, 253, 50))
		return id
	}},
	{drop.Expired, 0, func(p *pair) (gone klips.SAID) {
		p.both([]layer{aes}, func(s *klips.SASpec) { s.Hard.AddTime = 5 })
		q := p.wire()
		p.must(p.b.SetKnob("expire_unused", 0)) // or the timer would remove the SA first
		p.clock.Advance(7 * time.Second)
		p.in(q)
		return
	}},
	{drop.Failed, 0, func(p *pair) klips.SAID { // AH cannot predict this header (RFC 4302 section 3.3.3.1.2)
		ids := p.sas(p.a, []layer{ahMD5}, func(s *klips.SASpec) { s.ID.Dst, s.Src = gwB6, gwA6 })
		p.route(p.a, "2001:db8::1/128", "2001:db8::2/128", ids[0], klips.ErouteAdd)
		p.out(with(options6(ip(gwA6, gwB6, 253, 50)), func(q []byte) { q[6], q[42], q[43] = packet.ProtoRouting, 3, 1 }))
		return ids[0]
	}},
	{drop.Nesting, 0, func(p *pair) klips.SAID {
		other := klips.SAID{Dst: netip.MustParseAddr("192.0.2.3"), SPI: 0x1000, Proto: klips.ProtoTun}
		ids := p.sas(p.a, []layer{tun, aes}, nil)
		p.must(p.a.AddSA(p.t.Context(), &klips.SASpec{ID: other, Src: gwA4}))
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", other, klips.ErouteAdd)
		p.route(p.a, "192.0.2.1/32", "192.0.2.3/32", ids[0], klips.ErouteAdd)
		p.out(ip(inA4, inB4, 253, 50))
		return other
	}},
	{drop.Detached, 2, func(p *pair) (none klips.SAID) {
		p.must(p.a.Detach(p.t.Context(), "ipsec0"))
		p.out(ip(inA4, inB4, 253, 50), ip(inA4, inB4, 253, 50))
		return
	}},
	{drop.Detached, 0, func(p *pair) (none klips.SAID) {
		p.both([]layer{aes}, nil)
		p.hb.ArriveBy(7, p.wire())
		p.hb.Settle()
		return
	}},
	{drop.NotRead, 0, func(p *pair) (none klips.SAID) {
		p.ha.Link("ipsec0").Break(errors.New("too many segments"))
		p.ha.Settle()
		return
	}},
	{drop.IPOptions, 0, func(p *pair) (none klips.SAID) {
		p.out(with(ip(inA4, inB4, 253, 50), func(q []byte) { q[0]++ }))
		return
	}},
	{drop.TTL, 0, func(p *pair) (none klips.SAID) {
		p.out(with(ip(inA4, inB4, 253, 50), func(q []byte) { q[8] = 0 }))
		return
	}},
	{drop.TTL, 0, func(p *pair) (none klips.SAID) {
		p.out(with(ip(inA6, inB6, 253, 50), func(q []byte) { q[7] = 0 }))
		return
	}},
	{drop.Fragments, 0, func(p *pair) (none klips.SAID) { // the other fragments are missing
		f := cut(udpWith(gwA4, gwB4, 3000), 1500)
		p.ha.Link("ipsec0").Send(f[0])
		p.ha.Settle()
		p.must(p.a.Detach(p.t.Context(), "ipsec0"))
		return
	}},
	{drop.NoEroute, 0, func(p *pair) (none klips.SAID) { p.out(ip(inA6, inB6, 253, 50)); return }},
	{drop.ErouteDrop, 0, func(p *pair) (none klips.SAID) { p.shunt(klips.SPIDrop, 1); return }},
	{drop.ErouteReject, 0, func(p *pair) (none klips.SAID) { p.shunt(klips.SPIReject, 1); return }},
	{drop.ErouteTrap, 2, func(p *pair) (none klips.SAID) { p.shunt(klips.SPITrap, 2); return }}, // no key daemon
	{drop.ErouteHold, 2, func(p *pair) (none klips.SAID) { p.shunt(klips.SPIHold, 3); return }}, // the last one stays
	{drop.ErouteUnknown, 0, func(p *pair) (none klips.SAID) { p.shunt(0x106, 1); return }},
	{drop.HoldFull, 0, func(p *pair) (none klips.SAID) {
		p.a.SetEvents(new(daemon))
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPITrap), klips.ErouteAdd)
		for i := range p.a.Holds().Max + 1 {
			p.out(ip(inA4, netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 253, 50))
		}
		return
	}},
	{drop.HoldExpired, 0, func(p *pair) (none klips.SAID) {
		p.shunt(klips.SPIHold, 1)
		p.clock.Advance(time.Minute)
		return
	}},
	{drop.HoldEnded, 0, func(p *pair) (none klips.SAID) {
		p.shunt(klips.SPIHold, 1)
		p.must(p.a.DeleteEroute(p.t.Context(), sel("10.1.0.0/16", "10.2.0.0/16")))
		return
	}},
	{drop.HoldEnded, 0, func(p *pair) (none klips.SAID) {
		p.shunt(klips.SPIHold, 1)
		p.must(p.a.ClearEroutes(p.t.Context()))
		return
	}},
	{drop.NoNumbers, 0, func(p *pair) (gone klips.SAID) {
		ids := p.both([]layer{aes}, nil)
		p.a.SetSeq(ids[0], 1<<32-1)
		p.out(ip(gwA4, gwB4, 253, 50))
		return
	}},
	{drop.NotReserved, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.a.SetLimit(ids[0], 1)
		p.out(ip(gwA4, gwB4, 253, 50))
		p.out(ip(gwA4, gwB4, 253, 50))
		return ids[0]
	}},
	{drop.TooBig, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.out(with(ip(gwA4, gwB4, 253, 1480), df))
		return ids[0]
	}},
	{drop.TooBig, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{tun, aes}, nil)
		p.out(ip(inA4, inB4, 253, 65495))
		return ids[0]
	}},
	{drop.TooBig, 0, func(p *pair) (none klips.SAID) { // in clear
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIPass), klips.ErouteAdd)
		p.out(with(ip(inA4, inB4, 253, 1600), df))
		return
	}},
	{drop.NotSent, 2, func(p *pair) (none klips.SAID) {
		p.both([]layer{tun, aes}, nil)
		p.ha.Refuse("eth0", func([]byte) error { return errors.New("no room") })
		p.out(ip(inA4, inB4, 253, 50), ip(inA4, inB4, 253, 50))
		return
	}},
	{drop.NotSent, 0, func(p *pair) klips.SAID { // in pieces
		ids := p.both([]layer{tun, aes}, nil)
		p.ha.Refuse("eth0", func([]byte) error { return errors.New("no room") })
		p.out(ip(inA4, inB4, 253, 5000))
		return ids[1]
	}},
	{drop.NotESP, 0, func(p *pair) (none klips.SAID) { // a keepalive
		p.in(with(udpIn(gwA4, gwB4, 1), func(q []byte) { q[28] = 0xff }))
		return
	}},
	{drop.NotESP, 0, func(p *pair) (none klips.SAID) { // IKE, which looks like ESP
		p.in(with(udpIn(gwA4, gwB4, 100), func(q []byte) { q[22], q[23] = 500>>8, 500&0xff }))
		return
	}},
	{drop.WrongOrder, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.must(p.b.AddSA(p.t.Context(), &klips.SASpec{ID: klips.SAID{Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoAH}, Src: gwA4,
			Transform: ahMD5.tr, AuthKey: testKey(16)}))
		p.must(p.b.Group(p.t.Context(), []klips.SAID{ids[0], {Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoAH}}))
		p.in(p.wire())
		return klips.SAID{}
	}},
	{drop.WrongSource, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.in(with(p.wire(), func(q []byte) { q[15]++ }))
		return ids[0]
	}},
	{drop.WrongUDP, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, func(s *klips.SASpec) { s.NATT.Type = klips.NATTNonESP })
		p.in(p.wire())
		return ids[0]
	}},
	{drop.Replayed, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		q := p.wire()
		p.in(q, q)
		return ids[0]
	}},
	{drop.Replayed, 0, func(p *pair) klips.SAID { // 0 is never sent
		ids := p.both([]layer{aes}, nil)
		p.in(with(p.wire(), func(q []byte) { clear(q[24:28]) }))
		return ids[0]
	}},
	{drop.TooOld, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.b.SetReceived(ids[0], 33)
		p.in(p.wire())
		return ids[0]
	}},
	{drop.BelowMark, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.b.SetReceived(ids[0], 5)
		p.b.SetRemembered(ids[0], 5)
		p.b.SetReceived(ids[0], 1)
		p.in(p.wire())
		return ids[0]
	}},
	{drop.BadICV, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.in(with(p.wire(), func(q []byte) { q[50]++ }))
		return ids[0]
	}},
	{drop.BadICV, 0, func(p *pair) klips.SAID { // another key
		ids := p.both([]layer{tun, ahMD5}, func(s *klips.SASpec) { s.AuthKey = bytes.Clone(s.AuthKey); clear(s.AuthKey) })
		p.in(p.wire())
		return ids[1]
	}},
	{drop.BadPadding, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{{klips.ProtoESP, klips.Transform{Enc: tdes.tr.Enc}}}, nil)
		// In CBC a change in one block changes the pad length in the next block.
		p.in(with(p.wire(), func(q []byte) { q[len(q)-8-2] ^= 0xff }))
		return ids[0]
	}},
	{drop.Dummy, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		sent, _ := p.out(ip(gwA4, gwB4, packet.ProtoNoNext, 64))
		p.in(sent...)
		return ids[0]
	}},
	{drop.NoTunnel, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{tun, aes}, func(s *klips.SASpec) {
			if s.ID.Proto == klips.ProtoTun {
				s.Src = netip.MustParseAddr("192.0.2.99")
			}
		})
		p.in(p.wire())
		return ids[0]
	}},
	{drop.NoTunnel, 0, func(p *pair) klips.SAID { // no header behind it
		ids := p.sas(p.b, []layer{tun, aes}, nil)
		p.sas(p.a, []layer{aes}, func(s *klips.SASpec) { s.ID = ids[1] })
		p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", ids[1], klips.ErouteAdd)
		p.in(p.wire())
		return ids[1]
	}},
	{drop.Congestion, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{tun, aes}, nil)
		p.in(with(p.wire(), func(q []byte) { q[1] |= 3 }))
		return ids[0]
	}},
	{drop.NoPolicy, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{tun, aes}, nil)
		p.must(p.b.SetKnob("inbound_policy_required", 1))
		p.in(p.wire())
		return ids[0]
	}},
	{drop.NoPolicy, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.must(p.b.SetKnob("inbound_policy_required", 1))
		p.in(p.wire())
		return ids[0]
	}},
	{drop.Policy, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{tun, aes}, nil)
		p.route(p.b, "10.9.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAddIn)
		p.in(p.wire())
		return ids[0]
	}},
	{drop.Policy, 0, func(p *pair) klips.SAID {
		ids := p.both([]layer{aes}, nil)
		p.route(p.b, "192.0.2.9/32", "192.0.2.2/32", ids[0], klips.ErouteAddIn)
		p.in(p.wire())
		return ids[0]
	}},
	{drop.NotDelivered, 0, func(p *pair) (none klips.SAID) {
		p.both([]layer{tun, aes}, nil)
		p.hb.Link("ipsec0").Refuse(func() error { return errors.New("down") })
		p.in(p.wire())
		return
	}},
	{drop.NotDelivered, 0, func(p *pair) klips.SAID { // the host could send an ICMP error in clear
		ids := p.both([]layer{aes}, nil)
		p.hb.Link("ipsec0").WhenQuiet(func(uint8, bool) error { return errors.New("no more files") })
		p.in(p.wire())
		return ids[0]
	}},
}

// unrecorded are the reasons whose packets are not at hand when they are counted.
var unrecorded = map[drop.Reason]bool{drop.NotRead: true, drop.Fragments: true}

// Each reason has packets here. Each is counted once, and for the SA that causes the
// drop.
func TestDrops(t *testing.T) {
	provoked := map[drop.Reason]bool{}
	for i, c := range dropCases {
		provoked[c.why] = true
		t.Run(fmt.Sprint(i, c.why), func(t *testing.T) {
			p := bare(t)
			by := c.do(p)
			n := max(c.n, 1)
			want := drop.Counts{c.why.String(): n}
			got := drop.Counts{}
			for _, e := range []*engine.Engine{p.a, p.b} {
				for word, n := range p.drops(e) {
					got[word] += n
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("the stacks (-want +got):\n%s", d)
			}
			if last := slices.Concat(p.a.LastDrops(), p.b.LastDrops()); !unrecorded[c.why] && (len(last) != 1 || last[0].Reason != c.why.String() || by != (klips.SAID{}) && last[0].SA != by) {
				t.Errorf("recorded %+v, want one packet, and %v", last, by)
			}
			clear(got)
			for _, e := range []*engine.Engine{p.a, p.b} {
				l, err := e.SAs(t.Context())
				p.must(err)
				for _, sa := range l {
					if sa.BelowMark != 0 && c.why != drop.BelowMark {
						t.Errorf("%v counts %d packets below a mark", sa.ID, sa.BelowMark)
					}
					for word, n := range sa.Drops {
						got[word] += n
						if sa.ID != by {
							t.Errorf("%v counts %v", sa.ID, sa.Drops)
						}
					}
				}
			}
			if by == (klips.SAID{}) {
				clear(want)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("the SAs (-want +got):\n%s", d)
			}
		})
	}
	for _, r := range drop.All() {
		if !provoked[r] {
			t.Errorf("no case provokes %v", r)
		}
	}
}

// drops returns all counters of a stack, of its devices and of no device.
func (p *pair) drops(e *engine.Engine) drop.Counts {
	p.t.Helper()
	sum := drop.Counts{}
	l, err := e.Devices(p.t.Context())
	p.must(err)
	for _, c := range append([]klips.Device{{Drops: e.Drops()}}, l...) {
		for word, n := range c.Drops {
			sum[word] += n
		}
	}
	return sum
}

// A packet is counted when its processing has ended. No counter is ever decreased.
func TestCountersOnlyGrow(t *testing.T) {
	p := bare(t)
	p.both([]layer{tun, aes}, nil)
	var seen []klips.DeviceStats
	look := func(e *engine.Engine) func() error {
		return func() error {
			seen = append(seen, p.stats(e))
			return errors.New("refused")
		}
	}
	wire := p.wire()
	p.wantStats("before", p.a, klips.DeviceStats{TxPackets: 1, TxBytes: 152})
	p.ha.Refuse("eth0", func([]byte) error { return look(p.a)() })
	p.out(ip(inA4, inB4, 253, 50))
	seen = append(seen, p.stats(p.a))
	p.out(ip(inA4, inB4, 253, 3000)) // in three pieces
	seen = append(seen, p.stats(p.a))
	for i, s := range seen {
		if s.TxPackets != 1 {
			t.Errorf("tx_packets is %d at look %d, want 1: no other has been sent", s.TxPackets, i+1)
		}
	}
	if s := seen[len(seen)-1]; s.TxErrors != 2 {
		t.Errorf("tx_errors is %d, want 2", s.TxErrors)
	}
	seen = nil
	p.hb.Link("ipsec0").Refuse(look(p.b))
	p.in(wire)
	seen = append(seen, p.stats(p.b))
	for i, s := range seen {
		if s.RxBytes != 0 || s.RxPackets != 1 {
			t.Errorf("%+v at look %d, want one packet and no bytes", s, i+1)
		}
	}
}

package engine_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A trapCase is a kind of trap, and the hold that its packets cause.
type trapCase struct {
	name       string
	spi        klips.SPI
	trap, hold klips.Selector
	packet     []byte
}

func trapCases() []trapCase {
	v4, v6 := ip(inA4, inB4, packet.ProtoUDP, 40), ip(inA6, inB6, packet.ProtoUDP, 40)
	wide4, wide6 := sel("10.1.0.0/16", "10.2.0.0/16"), sel("2001:db8:a::/48", "2001:db8:b::/48")
	pair4, pair6 := sel("10.1.0.5/32", "10.2.0.5/32"), sel("2001:db8:a::5/128", "2001:db8:b::5/128")
	return []trapCase{
		{"trap", klips.SPITrap, wide4, pair4, v4},
		{"trap, IPv6", klips.SPITrap, wide6, pair6, v6},
		{"trap for one pair", klips.SPITrap, pair4, pair4, v4},
		{"trapsubnet", klips.SPITrapSubnet, wide4, wide4, v4},
		{"trapsubnet, IPv6", klips.SPITrapSubnet, wide6, wide6, v6},
	}
}

// targets returns the SAIDs of an engine's eroutes, by selector.
func targets(t *testing.T, e *engine.Engine) map[klips.Selector]klips.SAID {
	l, err := e.Eroutes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := map[klips.Selector]klips.SAID{}
	for _, r := range l {
		m[r.Selector] = r.ID
	}
	return m
}

// A %hold that no key daemon replaces within half a minute is removed with its packets.
// Then the trap matches again: the next packet asks key daemons once more.
func TestHoldExpires(t *testing.T) {
	for _, c := range trapCases() {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			d := &daemon{}
			p.a.SetEvents(d)
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: c.trap, ID: klips.Magic(c.spi), PID: 7}, klips.ErouteAdd))
			p.out(c.packet)
			p.clock.Advance(29 * time.Second)
			p.out(c.packet)
			if m := targets(t, p.a); m[c.hold] != klips.Magic(klips.SPIHold) {
				t.Errorf("after 29 s the eroutes are %v, want a hold for %v", m, c.hold)
			}
			p.clock.Advance(time.Second)
			if m := targets(t, p.a); len(m) != 1 || m[c.trap] != klips.Magic(c.spi) {
				t.Errorf("after 30 s the eroutes are %v, want the trap alone", m)
			}
			if s := p.a.Holds(); s.Held != 0 || s.Expired != 1 || s.Evicted != 0 {
				t.Errorf("after 30 s the holds are %+v", s)
			}
			if _, a := d.heard(); len(a) != 1 {
				t.Errorf("%d questions to key daemons, want 1", len(a))
			}
			p.out(c.packet)
			if _, a := d.heard(); len(a) != 1 {
				t.Errorf("%d questions after the hold went, want 1", len(a))
			}
			// The packets that are held now are sent; the expired ones are not.
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: c.hold, ID: klips.Magic(klips.SPIPass)}, klips.ErouteReplace))
			if n := len(p.net.Sent()); n != 1 {
				t.Errorf("%d packets were let go, want 1", n)
			}
			if s := p.a.Holds(); s.Held != 0 || p.clock.Timers() != 1 {
				t.Errorf("nothing is held, but %+v, %d timers", s, p.clock.Timers())
			}
			p.clock.Advance(time.Hour)
			if m := targets(t, p.a); m[c.hold] != klips.Magic(klips.SPIPass) || p.clock.Timers() != 0 {
				t.Errorf("an hour later the eroutes are %v, %d timers", m, p.clock.Timers())
			}
		})
	}
}

// An eroute that a command made in the place of a %hold or of its trap stays.
func TestHoldExpiresLate(t *testing.T) {
	for _, c := range trapCases() {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			p.a.SetEvents(&daemon{})
			set := func(s klips.Selector, id klips.SAID) {
				t.Helper()
				p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: id}, klips.ErouteReplace))
			}
			set(c.trap, klips.Magic(c.spi))
			p.out(c.packet)
			p.must(p.a.DeleteEroute(t.Context(), c.hold))
			set(c.hold, klips.Magic(klips.SPIHold))
			p.clock.Advance(time.Minute)
			if m := targets(t, p.a); m[c.hold] != klips.Magic(klips.SPIHold) {
				t.Errorf("the eroutes are %v, want the hold that a command made", m)
			}
		})
	}
}

// If a command made the %hold, only its packets expire.
func TestHoldByCommand(t *testing.T) {
	p := newPair(t)
	s := sel("10.1.0.0/16", "10.2.0.0/16")
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIHold)}, klips.ErouteAdd))
	p.out(holdPackets(3)...)
	if h := p.a.Holds(); h.Held != 1 {
		t.Fatalf("the holds are %+v", h)
	}
	p.clock.Advance(time.Minute)
	if h := p.a.Holds(); h.Held != 0 || h.Expired != 1 {
		t.Errorf("after a minute the holds are %+v", h)
	}
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIPass)}, klips.ErouteReplace))
	if n := len(p.net.Sent()); n != 0 {
		t.Errorf("%d packets were let go, want none", n)
	}
}

// Packets to always new addresses make only a limited number of holds: the oldest are
// removed. All packets count as dropped, and none is sent in clear.
func TestHoldsAreBounded(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			p := newPair(t)
			p.a.SetEvents(&daemon{})
			trap, src, dst := sel("10.1.0.0/16", "10.2.0.0/16"), inA4, netip.MustParseAddr("10.2.0.0")
			if v6 {
				trap, src, dst = sel("2001:db8:a::/48", "2001:db8:b::/48"), inA6, netip.MustParseAddr("2001:db8:b::")
			}
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: trap, ID: klips.Magic(klips.SPITrap)}, klips.ErouteAdd))
			limit := p.a.Holds().Max
			extra := 500
			var first, last netip.Addr
			for i := range limit + extra {
				if dst = dst.Next(); i == 0 {
					first = dst
				}
				last = dst
				p.ha.Link("ipsec0").Send(ip(src, dst, packet.ProtoUDP, 20))
			}
			p.ha.Settle()
			if s := p.a.Holds(); s.Held != limit || s.Evicted != uint64(extra) || s.Expired != 0 {
				t.Errorf("after %d new addresses the holds are %+v", limit+extra, s)
			}
			if s := p.stats(p.a); s.TxDropped != uint64(limit+extra) || len(p.net.Sent()) != 0 {
				t.Errorf("%d packets: counters %+v, %d sent", limit+extra, s, len(p.net.Sent()))
			}
			m := targets(t, p.a)
			pair := func(d netip.Addr) klips.Selector {
				return klips.Selector{Src: netip.PrefixFrom(src, src.BitLen()), Dst: netip.PrefixFrom(d, d.BitLen())}
			}
			_, oldest := m[pair(first)]
			_, newest := m[pair(last)]
			if len(m) != limit+1 || oldest || !newest {
				t.Errorf("there are %d eroutes, the oldest hold: %v, the newest: %v", len(m), oldest, newest)
			}
			p.clock.Advance(time.Minute)
			if m := targets(t, p.a); len(m) != 1 || p.clock.Timers() != 0 {
				t.Errorf("a minute later there are %d eroutes and %d timers", len(m), p.clock.Timers())
			}
		})
	}
}

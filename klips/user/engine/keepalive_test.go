package engine_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// keepalives advances the clock by d and returns the flows of the packets that A has
// sent. All of them must be NAT keepalives.
func (p *pair) keepalives(d time.Duration) (flows []string) {
	p.t.Helper()
	n := len(p.net.Sent())
	p.clock.Advance(d)
	for _, s := range p.net.Sent()[n:] {
		h, ok := packet.ParseIP(s)
		if !ok || h.Proto != packet.ProtoUDP || h.Total != h.Len+9 || len(s) != h.Total || s[len(s)-1] != 0xff || h.TTL == 0 || h.Version == 4 && h.DF || h.Frag {
			p.t.Errorf("sent %x, want a keepalive", s)
			continue
		}
		u := s[h.Len:]
		switch sum := binary.BigEndian.Uint16(u[6:]); {
		case h.Version == 4 && (sum != 0 || packet.Fold(packet.Sum(s[:20], 0)) != 0xffff), h.Version == 6 && !checksumOK(s), binary.BigEndian.Uint16(u[4:]) != 9:
			p.t.Errorf("the checksums or the length in %x are wrong", s)
		}
		flows = append(flows, netip.AddrPortFrom(h.Src, binary.BigEndian.Uint16(u)).String()+" > "+
			netip.AddrPortFrom(h.Dst, binary.BigEndian.Uint16(u[2:])).String())
	}
	return flows
}

func (p *pair) wantKeepalives(what string, d time.Duration, want ...string) {
	p.t.Helper()
	got := p.keepalives(d)
	rest := map[string]int{}
	for _, f := range got {
		rest[f]++
	}
	for _, f := range want {
		rest[f]--
	}
	for f, n := range rest {
		if n != 0 {
			p.t.Errorf("%s: keepalives %q, want %q (%s)", what, got, want, f)
			return
		}
	}
}

func TestKeepalive(t *testing.T) {
	for _, f := range []struct {
		name      string
		own, peer netip.Addr
	}{{"IPv4", gwA4, gwB4}, {"IPv6", gwA6, gwB6}} {
		t.Run(f.name, func(t *testing.T) {
			p := newPair(t)
			flow := func(sport, dport uint16) string {
				return netip.AddrPortFrom(f.own, sport).String() + " > " + netip.AddrPortFrom(f.peer, dport).String()
			}
			usual := flow(4500, 4500)
			add := func(spi klips.SPI, dst, src netip.Addr, n klips.NATT, change func(*klips.SASpec)) klips.SAID {
				t.Helper()
				s := &klips.SASpec{ID: klips.SAID{Dst: dst, SPI: spi, Proto: klips.ProtoESP}, Src: src, NATT: n,
					Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: testKey(16), AuthKey: testKey(20)}
				if change != nil {
					change(s)
				}
				p.must(p.a.AddSA(t.Context(), s))
				return s.ID
			}
			nonESP, nonIKE := klips.NATT{Type: klips.NATTNonESP}, klips.NATT{Type: klips.NATTNonIKE}
			before := p.stats(p.b)
			none := p.clock.Timers()

			add(0x100, f.own, f.peer, nonESP, nil)
			add(0x101, f.peer, f.own, klips.NATT{}, nil)
			p.wantKeepalives("an inbound SA, and one that is not in UDP", time.Minute)
			p.clock.Advance(time.Second) // the MTUs are chosen again
			if got := p.clock.Timers(); got != none {
				t.Errorf("%d timers wait, want %d", got, none)
			}

			first := add(0x200, f.peer, f.own, nonESP, nil)
			p.wantKeepalives("before its time", 20*time.Second-1)
			p.wantKeepalives("in time", 1, usual)
			p.wantKeepalives("again", 40*time.Second, usual, usual)

			// No keepalive is needed while packets are sent.
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: netip.PrefixFrom(f.own, f.own.BitLen()),
				Dst: netip.PrefixFrom(f.peer, f.peer.BitLen()), Proto: 1}, ID: first}, klips.ErouteAdd))
			p.keepalives(15 * time.Second)
			if sent, _ := p.out(ip(f.own, f.peer, 1, 40)); len(sent) != 1 {
				t.Fatalf("sent %d packets, want 1", len(sent))
			}
			p.wantKeepalives("after a packet", 20*time.Second-1)
			p.wantKeepalives("quiet again", 1, usual)

			// One for each flow, even if it has several SAs.
			add(0x201, f.peer, f.own, nonESP, nil)
			add(0x202, f.peer, f.own, klips.NATT{Type: klips.NATTNonESP, SPort: 4501, DPort: 4502}, nil)
			add(0x203, f.peer, f.own, nonIKE, nil)
			p.wantKeepalives("four SAs, three flows", 21*time.Second, usual, flow(4501, 4502), flow(500, 500))

			// Other ports make another flow.
			p.must(p.a.SetPorts(t.Context(), klips.SAID{Dst: f.peer, SPI: 0x203, Proto: klips.ProtoESP}, 501, 502))
			p.wantKeepalives("other ports", 21*time.Second, usual, flow(4501, 4502), flow(501, 502))
			for spi := klips.SPI(0x201); spi < 0x204; spi++ {
				p.must(p.a.DeleteSA(t.Context(), klips.SAID{Dst: f.peer, SPI: spi, Proto: klips.ProtoESP}))
			}
			p.wantKeepalives("deleted", 21*time.Second, usual)

			// The knob changes the time, switches keepalives off, and applies at once.
			p.must(p.a.SetKnob("natt_keepalive", 5))
			p.wantKeepalives("every 5 seconds", 15*time.Second, usual, usual, usual)
			p.must(p.a.SetKnob("natt_keepalive", 0))
			p.wantKeepalives("never", time.Hour)
			n := len(p.net.Sent())
			p.must(p.a.SetKnob("natt_keepalive", 20))
			if got := len(p.net.Sent()) - n; got != 1 {
				t.Errorf("%d keepalives when the knob is set, want 1", got)
			}

			// Without a device none is sent, and none for an SA whose lifetime has
			// passed.
			p.must(p.a.Detach(t.Context(), "ipsec0"))
			p.wantKeepalives("detached", time.Minute)
			p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
			p.wantKeepalives("attached again", 20*time.Second, usual)
			p.must(p.a.DeleteSA(t.Context(), first))
			add(0x204, f.peer, f.own, nonESP, func(s *klips.SASpec) { s.Hard.AddTime = 30 })
			p.wantKeepalives("until its time is up", 2*time.Minute, usual)
			p.must(p.a.ClearSAs(t.Context()))

			// An SA without a source needs a packet first.
			any := netip.IPv4Unspecified()
			if f.own.Is6() {
				any = netip.IPv6Unspecified()
			}
			add(0x200, f.peer, any, nonESP, nil)
			p.wantKeepalives("no source", time.Minute)
			p.out(ip(f.own, f.peer, 1, 40))
			p.wantKeepalives("no source, but it has sent", 20*time.Second, usual)
			p.must(p.a.ClearSAs(t.Context()))
			p.clock.Advance(time.Second) // the MTUs are chosen again
			if got := p.clock.Timers(); got != none {
				t.Errorf("%d timers wait, want %d", got, none)
			}

			// The peer ignores them. (It has none of the SAs.)
			p.hb.Settle()
			if after := p.stats(p.b); after != before {
				t.Errorf("the peer counts %+v after %+v", after, before)
			}
		})
	}
}

// TestKeepaliveDevices: with several devices a keepalive is sent through the device that
// sends the packets of its SA.
func TestKeepaliveDevices(t *testing.T) {
	p := newPair(t)
	p.ha.AddDevice("eth1", 1500)
	p.must(p.a.Attach(t.Context(), "ipsec1", "eth1"))
	spec := func(spi klips.SPI, outIf uint16) *klips.SASpec {
		return &klips.SASpec{ID: klips.SAID{Dst: gwB4, SPI: spi, Proto: klips.ProtoESP}, Src: gwA4, OutIf: outIf, NATT: klips.NATT{Type: klips.NATTNonESP},
			Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: testKey(16), AuthKey: testKey(20)}
	}
	p.must(p.a.AddSA(t.Context(), spec(0x100, 0)))
	p.wantKeepalives("it has not sent, and there are two devices", time.Minute)
	p.must(p.a.AddSA(t.Context(), spec(0x101, 49153)))
	p.wantKeepalives("it names one", 20*time.Second, "192.0.2.1:4500 > 192.0.2.2:4500")
}

package engine_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// A daemon is a key daemon that records the messages that it receives.
type daemon struct {
	mu       sync.Mutex
	deaf     bool
	expires  []string
	acquires []engine.Acquisition
	mappings []string
	below    []string
}

func (d *daemon) BelowMark(id klips.SAID, mark uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.below = append(d.below, fmt.Sprintf("%v %d", id, mark))
}

func (d *daemon) Expire(sa *klips.SA, hard bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expires = append(d.expires, fmt.Sprintf("%v hard=%v state=%d bytes=%d packets=%d", sa.ID, hard, sa.State,
		sa.Life.Bytes.Count, sa.Life.Packets.Count))
}

func (d *daemon) Acquire(a *engine.Acquisition) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acquires = append(d.acquires, *a)
	return !d.deaf
}

func (d *daemon) heard() (expires []string, acquires []engine.Acquisition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	expires, acquires = d.expires, d.acquires
	d.expires, d.acquires = nil, nil
	return expires, acquires
}

func TestLifetimes(t *testing.T) {
	limit := func(which string, l *klips.Limits) {
		if which == "bytes" {
			l.Bytes = 168 // exactly two packets
		} else {
			l.Packets = 2
		}
	}
	for _, which := range []string{"bytes", "packets"} {
		for _, member := range []klips.Proto{klips.ProtoTun, klips.ProtoESP} {
			for _, hard := range []bool{false, true} {
				t.Run(fmt.Sprint(which, member, hard), func(t *testing.T) {
					p := bare(t)
					var d daemon
					p.a.SetEvents(&d)
					ids := p.sas(p.a, []layer{tun, tdes}, func(s *klips.SASpec) {
						if s.ID.Proto != member {
							return
						}
						l := &s.Soft
						if hard {
							l = &s.Hard
						}
						limit(which, l)
						if member == klips.ProtoTun && l.Bytes != 0 {
							l.Bytes = 208 // it counts the outer header
						}
					})
					p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
					id := ids[0]
					if member == klips.ProtoESP {
						id = ids[1]
					}
					for range 3 {
						p.out(ip(inA4, inB4, 253, 64))
					}
					if e, _ := d.heard(); len(e) != 0 {
						t.Fatalf("three packets, each within the limit before it: %q", e)
					}
					p.wantStats("three packets", p.a, klips.DeviceStats{TxPackets: 3, TxBytes: 3 * 136})
					for range 3 {
						p.out(ip(inA4, inB4, 253, 64))
					}
					bytes := 3 * 84
					if member == klips.ProtoTun {
						bytes = 3 * 104
					}
					want := fmt.Sprintf("%v hard=%v state=%d bytes=%d packets=3", id, hard, klips.Mature, bytes)
					if e, _ := d.heard(); !slices.Equal(e, []string{want}) {
						t.Errorf("heard %q, want %q", e, want)
					}
					if !hard {
						p.wantStats("packets after the soft limit", p.a, klips.DeviceStats{TxPackets: 3, TxBytes: 3 * 136})
						if s := p.sa(p.a, id).State; s != klips.Dying {
							t.Errorf("state %d, want dying", s)
						}
						return
					}
					// The first packet finds the limit, the others find no SA. All SAs of
					// the group are removed, and none has counted a packet.
					p.wantStats("packets after the hard limit", p.a, klips.DeviceStats{TxErrors: 1, TxDropped: 2})
					if n, _ := p.a.Count(); n != 0 {
						t.Errorf("%d SAs left, want none of the group", n)
					}
					if n := p.count(p.a, sel("10.1.0.0/16", "10.2.0.0/16")); n != 6 {
						t.Errorf("the eroute counts %d, want 6", n)
					}
				})
			}
		}
	}
}

func TestLifetimesInbound(t *testing.T) {
	p := bare(t)
	var d daemon
	p.b.SetEvents(&d)
	ids := p.sas(p.a, []layer{tun, tdes, ahMD5}, nil)
	p.sas(p.b, []layer{tun, tdes, ahMD5}, func(s *klips.SASpec) {
		switch s.ID.Proto {
		case klips.ProtoTun:
			s.Hard.Packets = 1 // the limits of an inbound tun SA are not checked
		case klips.ProtoESP:
			s.Soft.Packets, s.Hard.Packets = 2, 4
		}
	})
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", ids[0], klips.ErouteAdd)
	for i, want := range []int{1, 1, 1, 1, 1, 0, 0} {
		wire, _ := p.out(ip(inA4, inB4, 253, 64))
		if got := p.in(wire...); len(got) != want {
			t.Errorf("packet %d: delivered %x", i+1, got)
		}
	}
	soft := fmt.Sprintf("%v hard=false state=%d bytes=252 packets=3", ids[1], klips.Mature)
	hard := fmt.Sprintf("%v hard=true state=%d bytes=420 packets=5", ids[1], klips.Dying)
	if e, _ := d.heard(); !slices.Equal(e, []string{soft, hard}) {
		t.Errorf("heard %q, want %q", e, []string{soft, hard})
	}
	p.wantStats("all", p.b, klips.DeviceStats{RxPackets: 7, RxBytes: 5 * 64, RxDropped: 2})
	if n, _ := p.b.Count(); n != 0 {
		t.Errorf("%d SAs left, want none of the group", n)
	}
}

// holdPackets returns packets of one host pair with different contents.
func holdPackets(n int) (l [][]byte) {
	for i := range n {
		l = append(l, with(ip(inA4, inB4, 6, 40), func(q []byte) { q[20], q[21], q[22], q[23], q[5] = 4, 0, 0, 80, byte(i) }))
	}
	return l
}

func TestTrap(t *testing.T) {
	ident := &klips.Ident{Type: 2, Text: "east.example"}
	for _, c := range []struct {
		spi     klips.SPI
		proto   uint8
		dport   uint16
		trap    uint64 // its counter after 5 packets
		hold    klips.Selector
		counts  uint64
		src     string
		dst     string
		aproto  uint8
		dropped uint64
	}{
		{klips.SPITrap, 0, 0, 1, sel("10.1.0.5/32", "10.2.0.5/32"), 4, "10.1.0.5:0", "10.2.0.5:0", 0, 4},
		{klips.SPITrap, 6, 80, 1, klips.Selector{Src: netip.MustParsePrefix("10.1.0.5/32"), Dst: netip.MustParsePrefix("10.2.0.5/32"), Proto: 6, DstPort: 80}, 4, "10.1.0.5:0", "10.2.0.5:80", 6, 4},
		{klips.SPITrapSubnet, 0, 0, 5, sel("10.1.0.0/16", "10.2.0.0/16"), 5, "10.1.0.5:0", "10.2.0.5:0", 0, 4},
	} {
		t.Run(fmt.Sprint(c.spi, c.proto), func(t *testing.T) {
			p := newPair(t)
			d := daemon{deaf: true}
			p.a.SetEvents(&d)
			trap := sel("10.1.0.0/16", "10.2.0.0/16")
			trap.Proto, trap.DstPort = c.proto, c.dport
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: trap, ID: klips.Magic(c.spi), PID: 77, IdentDst: ident}, klips.ErouteAdd))
			// Without a key daemon there is no %hold, and every packet tries again.
			pkts := holdPackets(5)
			p.out(pkts[:2]...)
			if _, a := d.heard(); len(a) != 2 {
				t.Errorf("%d questions, want 2", len(a))
			}
			p.wantStats("two packets without a key daemon", p.a, klips.DeviceStats{TxDropped: 2})
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: trap, ID: klips.Magic(c.spi), PID: 77, IdentDst: ident}, klips.ErouteReplace))
			d.deaf = false

			if sent, back := p.out(pkts...); len(sent)+len(back) != 0 {
				t.Errorf("sent %x, answered %x", sent, back)
			}
			_, a := d.heard()
			want := engine.Acquisition{Src: netip.MustParseAddrPort(c.src), Dst: netip.MustParseAddrPort(c.dst), Proto: c.aproto}
			if len(a) != 1 || a[0].Src != want.Src || a[0].Dst != want.Dst || a[0].Proto != want.Proto || a[0].Trap.IdentDst != ident {
				t.Fatalf("asked %+v, want once %+v with the eroute's identities", a, want)
			}
			// The first packet is dropped, and each last one is replaced and dropped,
			// except the final one.
			p.wantStats("five packets", p.a, klips.DeviceStats{TxDropped: c.dropped})
			if n := p.count(p.a, trap); n != c.trap {
				t.Errorf("the trap counts %d, want %d", n, c.trap)
			}
			if n := p.count(p.a, c.hold); n != c.counts {
				t.Errorf("the hold counts %d, want %d", n, c.counts)
			}
			l, err := p.a.Eroutes(t.Context())
			p.must(err)
			i := slices.IndexFunc(l, func(e klips.Eroute) bool { return e.Selector == c.hold })
			if l[i].ID != klips.Magic(klips.SPIHold) || l[i].PID != 77 {
				t.Errorf("the hold is %+v", l[i])
			}
			// When it is replaced, the first and the last packet are sent.
			n := len(p.net.Sent())
			p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: c.hold, ID: klips.Magic(klips.SPIPass)}, klips.ErouteReplace))
			if sent := p.net.Sent()[n:]; len(sent) != 2 || !bytes.Equal(sent[0], pkts[0]) || !bytes.Equal(sent[1], pkts[4]) {
				t.Errorf("let go %x, want the first and the last of %x", sent, pkts)
			}
			if n := p.count(p.a, c.hold); n != 2 {
				t.Errorf("what came in its place counts %d, want 2", n)
			}
			p.wantStats("what was held", p.a, klips.DeviceStats{TxPackets: 2, TxBytes: 120})
		})
	}
}

// The packets that are held for an eroute are dropped when the eroute is removed.
func TestHoldRemoved(t *testing.T) {
	s := sel("10.1.0.0/16", "10.2.0.0/16")
	for name, remove := range map[string]func(e *engine.Engine) error{
		"deleted": func(e *engine.Engine) error { return e.DeleteEroute(t.Context(), s) },
		"cleared": func(e *engine.Engine) error { return e.ClearEroutes(t.Context()) },
	} {
		p := newPair(t)
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIHold), klips.ErouteAdd)
		p.out(holdPackets(3)...)
		p.wantStats("three held packets", p.a, klips.DeviceStats{TxDropped: 2})
		p.must(remove(p.a))
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIPass), klips.ErouteAdd)
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", klips.Magic(klips.SPIPass), klips.ErouteReplace)
		if n := len(p.net.Sent()); n != 0 {
			t.Errorf("%s: %d packets were let go", name, n)
		}
	}
}

// A trap from host to host is replaced by its own hold.
func TestTrapBecomesHold(t *testing.T) {
	p := newPair(t)
	p.a.SetEvents(new(daemon))
	p.route(p.a, "10.1.0.5/32", "10.2.0.5/32", klips.Magic(klips.SPITrap), klips.ErouteAdd)
	p.out(holdPackets(2)...)
	l, err := p.a.Eroutes(t.Context())
	p.must(err)
	if len(l) != 1 || l[0].ID != klips.Magic(klips.SPIHold) || l[0].Packets != 1 {
		t.Errorf("eroutes %+v, want one %%hold that counts 1", l)
	}
}

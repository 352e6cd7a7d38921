package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// Limits in seconds pass when their time comes, even if no packet is sent.
func TestLapse(t *testing.T) {
	for _, both := range []bool{false, true} { // in a group, or alone
		for _, use := range []bool{false, true} {
			t.Run(fmt.Sprint("group ", both, " use ", use), func(t *testing.T) {
				p := bare(t)
				var d daemon
				p.a.SetEvents(&d)
				layers := []layer{aes}
				if both {
					layers = []layer{tun, aes}
				}
				ids := p.sas(p.a, layers, func(s *klips.SASpec) {
					if s.ID.Proto != klips.ProtoESP {
						return
					}
					if use {
						s.Soft.UseTime, s.Hard.UseTime = 5, 8
					} else {
						s.Soft.AddTime, s.Hard.AddTime = 5, 8
					}
				})
				esp := ids[len(ids)-1]
				packets := 0
				if use {
					p.clock.Advance(time.Hour) // the time does not begin before the first packet
					src, dst := "192.0.2.1/32", "192.0.2.2/32"
					q := ip(gwA4, gwB4, 253, 40)
					if both {
						src, dst, q = "10.1.0.0/16", "10.2.0.0/16", ip(inA4, inB4, 253, 40)
					}
					p.route(p.a, src, dst, ids[0], klips.ErouteAdd)
					p.out(q)
					packets = 1
				}
				want := func(what string, n int, lines ...string) {
					t.Helper()
					if e, _ := d.heard(); !slices.Equal(e, lines) {
						t.Errorf("%s: heard %q, want %q", what, e, lines)
					}
					if got, _ := p.a.Count(); got != n {
						t.Errorf("%s: %d SAs, want %d", what, got, n)
					}
				}
				said := func(hard bool, state klips.State) string {
					bytes := 0
					if packets > 0 {
						bytes = 40
						if both {
							bytes = 60
						}
					}
					return fmt.Sprintf("%v hard=%v state=%d bytes=%d packets=%d", esp, hard, state, bytes, packets)
				}
				p.clock.Advance(5*time.Second - 1)
				want("before the soft limit", len(ids))
				p.clock.Advance(1)
				if use {
					p.clock.Advance(time.Second) // the time between two checks for a first packet
				}
				want("at the soft limit", len(ids), said(false, klips.Mature))
				p.clock.Advance(time.Second)
				want("after that", len(ids))
				p.clock.Advance(2 * time.Second)
				want("at the hard limit", 0, said(true, klips.Dying))
				p.clock.Advance(time.Second)
				if n := p.clock.Timers(); n != 0 {
					t.Errorf("%d timers wait for nothing", n)
				}
			})
		}
	}
}

// SAs are checked when a limit is due. They are checked every second only while an SA
// waits for its first packet.
func TestLapseLooks(t *testing.T) {
	p := bare(t)
	next := func(what string, want time.Duration) {
		t.Helper()
		if d, ok := p.clock.Next(); ok != (want > 0) || d != want {
			t.Errorf("%s: the next look is in %v, want %v", what, d, want)
		}
	}
	next("without SAs", 0)
	p.sas(p.a, []layer{aes}, func(s *klips.SASpec) { s.Soft.AddTime, s.Hard.AddTime = 50, 80 })
	next("with a soft limit", 50*time.Second)
	p.clock.Advance(50 * time.Second)
	next("with a hard limit", 30*time.Second)

	used := klips.SAID{Dst: gwB4, SPI: 0x2000, Proto: klips.ProtoESP}
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: used, Src: gwA4, Transform: aes.tr, EncKey: testKey(16), AuthKey: testKey(20),
		Hard: klips.Limits{UseTime: 10}}))
	next("before the first packet", time.Second)
	p.clock.Advance(3 * time.Second)
	next("before the first packet", time.Second)
	p.route(p.a, "192.0.2.1/32", "192.0.2.2/32", used, klips.ErouteAdd)
	p.out(ip(gwA4, gwB4, 253, 40))
	p.clock.Advance(time.Second)
	next("after the first packet", 9*time.Second)
	p.clock.Advance(9 * time.Second)
	if n, _ := p.a.Count(); n != 1 {
		t.Errorf("%d SAs, want 1", n)
	}
	p.clock.Advance(time.Second) // for the timers that the end of an SA starts
	next("after the other one is gone", 16*time.Second)

	p.must(p.a.SetKnob("expire_unused", 0))
	p.clock.Advance(time.Minute)
	next("with the knob off", 0)
	p.must(p.a.SetKnob("expire_unused", 1))
	if n, _ := p.a.Count(); n != 0 {
		t.Errorf("with the knob on again: %d SAs, want none", n)
	}
}

// With the knob expire_unused off, a limit needs a packet to take effect, as in KLIPS.
func TestLapseOfKLIPS(t *testing.T) {
	p := bare(t)
	var d daemon
	p.a.SetEvents(&d)
	p.must(p.a.SetKnob("expire_unused", 0))
	p.both([]layer{aes}, func(*klips.SASpec) {})
	id := klips.SAID{Dst: gwB4, SPI: 0x3000, Proto: klips.ProtoESP}
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: id, Src: gwA4, Transform: aes.tr, EncKey: testKey(16), AuthKey: testKey(20),
		Hard: klips.Limits{AddTime: 2}}))
	p.clock.Advance(time.Minute)
	if e, _ := d.heard(); len(e) != 0 {
		t.Errorf("heard %q", e)
	}
	p.must(p.a.SetKnob("expire_unused", 1))
	if e, _ := d.heard(); len(e) != 1 {
		t.Errorf("heard %q, want that the SA is gone", e)
	}
}

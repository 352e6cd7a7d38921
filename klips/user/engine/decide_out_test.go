package engine

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// decide decides about an outbound packet and changes nothing.
func TestDecide(t *testing.T) {
	e := newBare(t)
	for dst, id := range map[string]klips.SAID{
		"10.2.0.0/16": {Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x1000, Proto: klips.ProtoTun},
		"10.3.0.0/16": klips.Magic(klips.SPIPass),
		"10.4.0.0/16": klips.Magic(klips.SPIDrop),
		"10.5.0.0/16": klips.Magic(klips.SPIReject),
		"10.6.0.0/16": klips.Magic(klips.SPIHold),
		"10.7.0.0/16": klips.Magic(klips.SPITrap),
		"10.8.0.0/16": klips.Magic(klips.SPITrapSubnet),
		"10.9.0.0/16": klips.Magic(0x106),
	} {
		r := klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix(dst)}, ID: id}
		if err := e.SetEroute(t.Context(), r, klips.ErouteAdd); err != nil {
			t.Fatal(err)
		}
	}
	own := e.host.(*bareHost).local
	for _, tt := range []struct {
		name string
		src  netip.Addr
		dst  string
		edit func(p []byte)
		do   action
		why  drop.Reason
		none bool // no eroute matches
	}{
		{name: "an SA", dst: "10.2.0.5", do: protect},
		{name: "%pass", dst: "10.3.0.5", do: pass},
		{name: "%drop", dst: "10.4.0.5", do: discard, why: drop.ErouteDrop},
		{name: "%reject", dst: "10.5.0.5", do: reject, why: drop.ErouteReject},
		{name: "%hold", dst: "10.6.0.5", do: hold},
		{name: "%trap", dst: "10.7.0.5", do: trap},
		{name: "%trapsubnet", dst: "10.8.0.5", do: trap},
		{name: "an unknown word", dst: "10.9.0.5", do: discard, why: drop.ErouteUnknown},
		{name: "no eroute", dst: "192.0.2.2", do: discard, why: drop.NoEroute, none: true},
		{name: "ESP of the host", src: own, dst: "192.0.2.2", edit: func(p []byte) { p[9] = packet.ProtoESP }, do: bypass, none: true},
		{name: "ESP of the host, to %drop", src: own, dst: "10.4.0.5", edit: func(p []byte) { p[9] = packet.ProtoESP }, do: bypass},
		{name: "ESP of the host, to another gateway", src: own, dst: "10.2.0.5", edit: func(p []byte) { p[9] = packet.ProtoESP }, do: protect},
		{name: "ESP of others", dst: "10.4.0.5", edit: func(p []byte) { p[9] = packet.ProtoESP }, do: discard, why: drop.ErouteDrop},
		{name: "IP options", dst: "10.2.0.5", edit: func(p []byte) { p[0]++ }, do: discard, why: drop.IPOptions, none: true},
		{name: "a TTL of 0", dst: "10.2.0.5", edit: func(p []byte) { p[8] = 0 }, do: discard, why: drop.TTL, none: true},
	} {
		p := ipPacket(40)
		if tt.src.IsValid() {
			copy(p[12:], tt.src.AsSlice())
		}
		copy(p[16:], netip.MustParseAddr(tt.dst).AsSlice())
		if tt.edit != nil {
			tt.edit(p)
		}
		h, ok := packet.ParseIP(p)
		if !ok {
			t.Fatalf("%s: % x is no packet", tt.name, p)
		}
		s := selector(p, &h)
		d := e.decide(p, &h, &s, e.routes.NewCache())
		if d.do != tt.do || d.why != tt.why || (d.route == nil) != tt.none {
			t.Errorf("%s: action %d, reason %q, eroute %v; want %d, %q, none: %v", tt.name, d.do, d.why, d.route, tt.do, tt.why, tt.none)
		}
	}
	for _, r := range e.routes.All() {
		if r.Packets.Load() != 0 || r.LastUse.Load() != 0 {
			t.Errorf("the eroute to %v has counted %d packets", r.Selector().Dst, r.Packets.Load())
		}
	}
}

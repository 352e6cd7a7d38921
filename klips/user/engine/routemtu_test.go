package engine_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// The route to a peer has an MTU of its own: protected packets are not longer, senders are
// told, and the MTU of the device follows, whatever comes first, the SAs or the device.
func TestRouteMTU(t *testing.T) {
	natt := klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
	for _, c := range []struct {
		name   string
		layers []layer
		natt   klips.NATT
		gw     [2]netip.Addr
		mtu    int // what the sender is told if the route has 1400
		device int // the MTU of ipsec0 then
	}{
		{"esp", []layer{gcm}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1366, 1366},
		{"esp6", []layer{gcm}, klips.NATT{}, [2]netip.Addr{gwA6, gwB6}, 1366, 1366},
		{"ah", []layer{ahMD5}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1376, 1376},
		{"esp+ah", []layer{gcm, ahMD5}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1342, 1342},
		{"esp in UDP", []layer{gcm}, natt, [2]netip.Addr{gwA4, gwB4}, 1358, 1358},
		{"tunnel", []layer{tun, gcm}, klips.NATT{}, [2]netip.Addr{gwA4, gwB4}, 1346, 1346},
		{"tunnel in IPv6", []layer{tun, gcm}, klips.NATT{}, [2]netip.Addr{gwA6, gwB6}, 1326, 1326},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			p.natt = c.natt
			p.ha.SetRouteMTU(c.gw[1], 1400)
			id := p.makeGroup(c.layers, c.gw[0], c.gw[1], 0)
			src, dst := inA4, inB4
			if c.layers[0].proto != klips.ProtoTun {
				src, dst = c.gw[0], c.gw[1]
			}
			p.route(p.a, fmt.Sprint(src, "/", src.BitLen()), fmt.Sprint(dst, "/", dst.BitLen()), id, klips.ErouteAdd)
			head := 20
			if src.Is6() {
				head = 40
			}
			link := p.ha.Link("ipsec0")
			narrow := func(what string) {
				t.Helper()
				if mtu, _ := link.MTU(); mtu != c.device {
					t.Errorf("%s: ipsec0 has the MTU %d, want %d", what, mtu, c.device)
				}
				sent, back := p.out(df4(ip(src, dst, 253, c.mtu+1-head)))
				if len(back) != 1 || toldMTU(t, back[0]) != c.mtu {
					t.Errorf("%s: told %x, want an MTU of %d", what, back, c.mtu)
				}
				for _, s := range sent {
					if len(s) > 1400 {
						t.Errorf("%s: sent %d bytes", what, len(s))
					}
				}
				if sent, back := p.out(df4(ip(src, dst, 253, c.mtu-head))); len(sent) != 1 || len(back) != 0 || len(sent[0]) > 1400 {
					t.Errorf("%s: what fits is sent in %d packets, with %d answers", what, len(sent), len(back))
				}
				for _, s := range p.outPieces(cut(udpWith(src, dst, 3000), 1500)...) {
					if len(s) > 1400 {
						t.Errorf("%s: a piece has %d bytes", what, len(s))
					}
				}
			}
			narrow("from the start")

			p.ha.SetRouteMTU(c.gw[1], 0)
			p.clock.Advance(time.Second)
			if mtu, _ := link.MTU(); mtu != c.device+100 {
				t.Errorf("the route has no MTU any more: ipsec0 has %d, want %d", mtu, c.device+100)
			}
			if sent, back := p.out(df4(ip(src, dst, 253, c.mtu+100-head))); len(sent) != 1 || len(back) != 0 {
				t.Errorf("the route has no MTU any more: %d packets sent, %d answers", len(sent), len(back))
			}
			p.ha.SetRouteMTU(c.gw[1], 1400)
			p.clock.Advance(time.Second)
			narrow("the route has one again")

			p.must(p.a.Detach(t.Context(), "ipsec0"))
			p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
			narrow("attached after the SAs were made")

			// The least that a link can have: what may be fragmented is sent in small pieces.
			least := map[bool]int{false: 68, true: 1280}[c.gw[1].Is6()]
			p.ha.SetRouteMTU(c.gw[1], least)
			p.clock.Advance(time.Second)
			pieces := p.outPieces(cut(udpWith(src, dst, 3000), 1500)...)
			if len(pieces) < 2 {
				t.Errorf("the route has the least MTU: %d pieces", len(pieces))
			}
			for _, s := range pieces {
				if len(s) > least {
					t.Errorf("the route has the least MTU: a piece has %d bytes", len(s))
				}
			}

			p.ha.SetRouteMTU(c.gw[1], 9000) // more than the device has
			p.clock.Advance(time.Second)
			if mtu, _ := link.MTU(); mtu != c.device+100 {
				t.Errorf("the route has more than its device: ipsec0 has %d, want %d", mtu, c.device+100)
			}
		})
	}
}

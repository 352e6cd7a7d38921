package engine_test

import (
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// After a daemon was killed, the next one goes on choosing an MTU that the first one has
// chosen. It keeps an MTU that was set by hand.
func TestLinkMTULeft(t *testing.T) {
	for _, tt := range []struct {
		name         string
		byHand       int // 0: nobody sets the MTU
		physical     int // MTU of the physical device when the next daemon starts
		left, listed int // MTU and its listing after that
		again        int // MTU when the SAs are there again
	}{
		{"chosen", 0, 1500, 1438, klips.DeviceMTU, 1406},
		{"chosen, for a physical device that was larger", 0, 1400, 1400, klips.DeviceMTU, 1310},
		{"by hand", 1450, 1500, 1450, 1450, 1450},
		{"by hand, lower", 1300, 1500, 1300, 1300, 1300},
		{"by hand, as of the physical device", 1500, 1500, 1500, 1500, 1500},
		{"by hand, as of KLIPS", klips.DeviceMTU, 1500, klips.DeviceMTU, klips.DeviceMTU, klips.DeviceMTU},
	} {
		p := newPair(t)
		p.must(p.a.KeepDevices())
		p.sas(p.a, []layer{tun, aes}, nil)
		if tt.byHand != 0 {
			p.must(p.ha.Link("ipsec0").SetMTU(tt.byHand))
		}
		p.must(p.a.Close())
		p.ha.SetDeviceMTU("eth0", tt.physical)
		var err error
		p.a, err = engine.New(p.ha, engine.Config{Clock: p.clock})
		p.must(err)
		defer p.a.Close()
		p.must(p.a.TakeUp(nil))
		check := func(what string, want, listed int) {
			t.Helper()
			mtu, err := p.ha.Link("ipsec0").MTU()
			p.must(err)
			l, err := p.a.Devices(t.Context())
			p.must(err)
			if mtu != want || l[0].MTU != listed {
				t.Errorf("%s, %s: MTU %d, listed as %d, want %d and %d", tt.name, what, mtu, l[0].MTU, want, listed)
			}
		}
		check("taken up", tt.left, tt.listed)
		p.sas(p.a, []layer{tun, aes, ah256}, nil)
		check("with more SAs", tt.again, tt.listed)
	}
}

// A virtual device has the MTU that fits its groups. The listings show the MTU of KLIPS.
func TestLinkMTU(t *testing.T) {
	p := newPair(t)
	link := p.ha.Link("ipsec0")
	want := func(what string, mtu, listed int) {
		t.Helper()
		l, err := p.a.Devices(t.Context())
		p.must(err)
		if got, _ := link.MTU(); got != mtu || l[0].MTU != listed {
			t.Errorf("%s: the MTU is %d, listed as %d; want %d, %d", what, got, l[0].MTU, mtu, listed)
		}
	}
	want("attached", 1500, klips.DeviceMTU)
	id := p.makeGroup([]layer{tun, aes}, gwA4, gwB4, 0)
	want("a tunnel", 1438, klips.DeviceMTU)
	p.must(p.a.Ungroup(t.Context(), id))
	p.clock.Advance(time.Second)
	want("taken apart", 1458, klips.DeviceMTU)
	p.must(p.a.Group(t.Context(), []klips.SAID{id, {Dst: gwB4, SPI: 0x1001, Proto: klips.ProtoESP}}))
	want("together again", 1438, klips.DeviceMTU)
	p.ha.SetDeviceMTU("eth0", 1400)
	settled(t, "ipsec0 follows eth0", func() bool { mtu, _ := link.MTU(); return mtu == 1342 })
	p.ha.SetDeviceMTU("eth0", 1300)
	settled(t, "IPv6 needs 1280", func() bool { mtu, _ := link.MTU(); return mtu == 1280 })
	p.ha.SetDeviceMTU("eth0", 1500)
	settled(t, "ipsec0 follows eth0", func() bool { mtu, _ := link.MTU(); return mtu == 1438 })
	p.must(p.a.ClearSAs(t.Context()))
	want("just cleared", 1438, klips.DeviceMTU)
	p.clock.Advance(time.Second)
	want("a second later", 1500, klips.DeviceMTU)

	// An MTU that was set by hand stays.
	p.must(link.SetMTU(1450))
	id = p.sas(p.a, []layer{tun, aes}, nil)[0]
	want("set by hand", 1450, 1450)
	p.ha.SetDeviceMTU("eth0", 1000)
	p.must(p.a.DeleteSA(t.Context(), id))
	p.clock.Advance(time.Second)
	want("set by hand", 1450, 1450)
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	want("attached again", 1280, klips.DeviceMTU)

	p.must(p.a.SetKnob("mtu_rule", 1))
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	p.sas(p.a, []layer{tun, aes}, nil)
	want("by the rule of KLIPS", klips.DeviceMTU, klips.DeviceMTU)

	// The MTU of lo is larger than that of a virtual device can be.
	p.must(p.a.SetKnob("mtu_rule", 0))
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	p.ha.SetDeviceMTU("eth0", 65536)
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	want("on lo", klips.DeviceMTU, klips.DeviceMTU)
}

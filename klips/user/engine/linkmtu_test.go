package engine_test

import (
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
)

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

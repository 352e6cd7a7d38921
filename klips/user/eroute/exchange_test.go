package eroute

import (
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// Exchange and Remove change only the eroute that the caller holds, not one that has
// replaced it.
func TestExchangeAndRemove(t *testing.T) {
	for _, s := range []klips.Selector{sel("10.1.0.0/16", "10.2.0.0/16"), sel("2001:db8:a::/48", "2001:db8:b::/48")} {
		tab := New()
		to := func(spi klips.SPI) klips.Eroute { return klips.Eroute{Selector: s, ID: klips.Magic(spi), Packets: 3} }
		a := tab.Exchange(nil, to(klips.SPITrap))
		if a == nil || tab.Get(s) != a || a.Packets.Load() != 3 {
			t.Fatalf("%v: Exchange(nil) = %v, Get = %v", s, a, tab.Get(s))
		}
		if e := tab.Exchange(nil, to(klips.SPIHold)); e != nil {
			t.Errorf("%v: Exchange(nil) where an eroute is = %v, want nil", s, e)
		}
		b := tab.Exchange(a, to(klips.SPIHold))
		if b == nil || tab.Get(s) != b || tab.Len() != 1 {
			t.Errorf("%v: Exchange = %v, Get = %v, %d eroutes", s, b, tab.Get(s), tab.Len())
		}
		if e := tab.Exchange(a, to(klips.SPIPass)); e != nil || tab.Remove(a) {
			t.Errorf("%v: an eroute that is gone is exchanged for %v, or removed", s, e)
		}
		if tab.Get(s) != b || !tab.Remove(b) || tab.Len() != 0 || tab.Remove(b) {
			t.Errorf("%v: Remove took another eroute, or did it twice; %d are left", s, tab.Len())
		}
	}
}

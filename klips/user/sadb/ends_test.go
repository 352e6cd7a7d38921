package sadb

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

func TestIsFarEnd(t *testing.T) {
	db := New()
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	there6 := netip.MustParseAddr("2001:db8::2")
	add := func(spi klips.SPI, src, dst netip.Addr, dir klips.Direction) klips.SAID {
		t.Helper()
		s := updateSpec(spi, 1)
		s.Src, s.ID.Dst = src, dst
		if _, err := db.Add(s, dir, 1, nil); err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	want := func(what string, ends ...netip.Addr) {
		t.Helper()
		for _, a := range []netip.Addr{here, there, there6, netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			is := false
			for _, e := range ends {
				is = is || e == a
			}
			if got := db.IsFarEnd(a); got != is {
				t.Errorf("%s: IsFarEnd(%v) = %v, want %v", what, a, got, is)
			}
		}
	}
	del := func(id klips.SAID) {
		t.Helper()
		if _, err := db.Delete(id); err != nil {
			t.Fatal(err)
		}
	}
	want("no SA")
	out := add(0x100, here, there, klips.Outbound)
	want("outbound", there)
	in := add(0x101, there, here, klips.Inbound)
	out6 := add(0x102, netip.IPv6Unspecified(), there6, klips.Outbound)
	any := add(0x103, netip.IPv4Unspecified(), here, klips.Inbound)
	want("both directions, IPv4 and IPv6", there, there6)
	del(any)
	del(out)
	want("one of two gone", there, there6)

	// An update can change the source.
	s := updateSpec(0x101, 1)
	s.ID, s.Src = in, netip.IPv4Unspecified()
	if _, _, err := db.Update(s, klips.Inbound, nil); err != nil {
		t.Fatal(err)
	}
	want("updated to any source", there6)
	s.Src = there
	if _, _, err := db.Update(s, klips.Inbound, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.SetPorts(in, 1, 2); err != nil {
		t.Fatal(err)
	}
	want("updated back", there, there6)
	del(in)
	del(out6)
	want("all gone")
	add(0x104, here, there, klips.Outbound)
	db.Flush()
	want("flushed")
	if n := testing.AllocsPerRun(100, func() { db.IsFarEnd(there) }); n != 0 {
		t.Errorf("IsFarEnd allocates %v times", n)
	}
}

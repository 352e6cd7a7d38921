package eroute

import (
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// A table counts the further SAs of its eroutes, and does not share the caller's list.
func TestAlso(t *testing.T) {
	tab := New()
	id := klips.SAID{Dst: addr4(0xc0000202), SPI: 0x1000, Proto: klips.ProtoTun}
	also := []klips.SAID{{Dst: id.Dst, SPI: 0x1001, Proto: klips.ProtoTun}, {Dst: id.Dst, SPI: 0x1002, Proto: klips.ProtoTun}}
	want := func(what string, n int) {
		t.Helper()
		if got := tab.LenAlso(); got != n {
			t.Errorf("%s: LenAlso() = %d, want %d", what, got, n)
		}
	}
	a := klips.Eroute{Selector: sel("10.1.0.0/16", "10.2.0.0/16"), ID: id, Also: also}
	b := klips.Eroute{Selector: sel("fd01::/16", "fd02::/16"), ID: id, Also: also[:1]}
	for _, e := range []klips.Eroute{a, b} {
		if err := tab.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	want("added", 3)
	also[0].SPI = 7
	p := pkt("10.1.0.1", "10.2.0.1")
	if got := tab.Lookup(&p).Also(); len(got) != 2 || got[0].SPI != 0x1001 {
		t.Errorf("Also() = %v", got)
	}
	if tab.Add(a) == nil {
		t.Error("added twice")
	}
	want("refused", 3)
	b.Also = nil
	if _, err := tab.Replace(b); err != nil {
		t.Fatal(err)
	}
	want("replaced", 2)
	if _, err := tab.Delete(a.Selector); err != nil {
		t.Fatal(err)
	}
	want("deleted", 0)
	tab.Add(a)
	tab.Clear()
	want("cleared", 0)
	if got := (*Entry)(nil).Also(); got != nil {
		t.Errorf("no eroute has %v", got)
	}
}

package klips

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestBucket(t *testing.T) {
	for _, tt := range []struct {
		dst   string
		spi   SPI
		proto Proto
		want  int
	}{
		{"192.1.2.45", 0x12345678, ProtoESP, 130},
		{"192.1.2.45", 0x12345678, ProtoTun, 84},
		{"10.0.0.2", 0x200, ProtoTun, 14},
		{"10.0.0.2", 0x200, ProtoESP, 60},
		{"10.0.0.2", 0x200, ProtoAH, 61},
		// 0x78563412 is 2018915346, or 189 modulo 257; an IPv6
		// destination adds nothing.
		{"2001:db8::1", 0x12345678, ProtoESP, 239},
		{"2001:db8::2", 0x12345678, ProtoESP, 239},
	} {
		id := SAID{Dst: netip.MustParseAddr(tt.dst), SPI: tt.spi, Proto: tt.proto}
		if got := Bucket(id); got != tt.want {
			t.Errorf("Bucket(%v) = %d, want %d", id, got, tt.want)
		}
	}
}

func TestSortSAs(t *testing.T) {
	// Recorded from a KLIPS machine: three SAs of one bucket, newest first, must keep
	// their order.
	dst := netip.MustParseAddr("10.9.0.2")
	in := []SA{
		{ID: SAID{dst, 0x2021000, ProtoESP}}, {ID: SAID{dst, 0x1011000, ProtoESP}}, {ID: SAID{dst, 0x1000, ProtoESP}},
	}
	if a, b, c := Bucket(in[0].ID), Bucket(in[1].ID), Bucket(in[2].ID); a != b || b != c {
		t.Fatalf("buckets %d, %d, %d, want one", a, b, c)
	}
	want := slices.Clone(in)
	SortSAs(in)
	for i := range in {
		if in[i].ID != want[i].ID {
			t.Errorf("SortSAs: [%d] = %v, want %v", i, in[i].ID, want[i].ID)
		}
	}
}

func TestCompareEroutes(t *testing.T) {
	e := func(src, dst string, proto uint8, sport, dport uint16) Eroute {
		return Eroute{Selector: Selector{netip.MustParsePrefix(src), netip.MustParsePrefix(dst), proto, sport, dport}}
	}
	want := []Eroute{
		e("0.0.0.0/0", "0.0.0.0/0", 0, 0, 0),
		e("10.1.0.0/24", "10.2.0.0/24", 0, 0, 0),
		e("10.1.0.0/24", "10.2.0.0/16", 0, 0, 0),
		e("10.1.0.0/16", "10.2.0.0/24", 0, 0, 0),
		e("10.1.0.0/16", "10.2.0.0/16", 0, 0, 0),
		e("10.1.0.0/24", "10.2.0.0/24", 6, 0, 0),
		e("10.1.0.0/16", "10.2.0.0/16", 6, 0, 80),
		e("10.1.0.0/16", "10.2.0.0/16", 6, 0, 443),
		e("10.1.0.0/16", "10.2.0.0/16", 6, 1, 0),
		e("10.1.0.0/16", "10.2.0.0/16", 17, 0, 0),
		e("10.1.0.0/16", "10.3.0.0/16", 0, 0, 0),
		e("192.168.0.0/16", "10.0.0.0/8", 0, 0, 0),
		e("::/0", "::/0", 0, 0, 0),
		e("2001:db8::/48", "::/0", 0, 0, 0),
		e("2001:db8::/32", "::/0", 0, 0, 0),
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		got := slices.Clone(want)
		rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		slices.SortFunc(got, CompareEroutes)
		if !slices.EqualFunc(got, want, func(a, b Eroute) bool { return a.Selector == b.Selector }) {
			t.Fatalf("sorted:\n%v\nwant\n%v", got, want)
		}
	}
	for i := range want {
		if c := CompareEroutes(want[i], want[i]); c != 0 {
			t.Errorf("CompareEroutes(%v, same) = %d, want 0", want[i], c)
		}
	}
}

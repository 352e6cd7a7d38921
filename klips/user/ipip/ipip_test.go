package ipip

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

var (
	out4a = netip.MustParseAddr("192.1.2.23")
	out4b = netip.MustParseAddr("192.1.2.45")
	out6a = netip.MustParseAddr("2001:db8:9::23")
	out6b = netip.MustParseAddr("2001:db8:9::45")
)

// TestWire has complete outer headers.
func TestWire(t *testing.T) {
	for _, tt := range []struct {
		name          string
		src, dst      netip.Addr
		inner         int
		tos, ttl      uint8
		outer         string // without the IPv4 checksum
		proto, header int
	}{
		{"4 in 4", out4a, out4b, 4, 0, 64, "45000068beef00004004 0000 c0010217c001022d", 4, 20},
		{"6 in 4", out4a, out4b, 6, 0x28, 64, "4528007cbeef00004029 0000 c0010217c001022d", 41, 20},
		{"4 in 6", out6a, out6b, 4, 0xb8, 61, `6b800000 0054 04 3d 20010db8000900000000000000000023
			20010db8000900000000000000000045`, 4, 40},
		{"6 in 6", out6a, out6b, 6, 0x02, 255, `60200000 0068 29 ff 20010db8000900000000000000000023
			20010db8000900000000000000000045`, 41, 40},
	} {
		inner := pkttest.UDP(tt.inner, 56)
		b := pkttest.Buffer(inner)
		var said packet.Header
		if err := Encap(b, &said, tt.src, tt.dst, tt.tos, tt.ttl, 0xbeef); err != nil {
			t.Errorf("%s: Encap = %v", tt.name, err)
			continue
		}
		want := pkttest.Hex(t, tt.outer)
		packet.FixChecksum(want)
		if got := b.Bytes()[:tt.header]; !bytes.Equal(got, want) {
			t.Errorf("%s: outer header\n%x, want\n%x", tt.name, got, want)
		}
		if got := b.Bytes()[tt.header:]; !bytes.Equal(got, inner) {
			t.Errorf("%s: the inner packet has changed", tt.name)
		}
		h := pkttest.Parse(t, b)
		if h != said {
			t.Errorf("%s: the header is said to be %+v, and is %+v", tt.name, said, h)
		}
		if int(h.Proto) != tt.proto || h.Total != b.Len() || h.Len != Overhead(tt.dst) || h.Src != tt.src || h.Dst != tt.dst ||
			h.TOS != tt.tos || h.TTL != tt.ttl || (h.Version == 4 && h.DF) {
			t.Errorf("%s: outer header %+v", tt.name, h)
		}
		b.Grow(7) // link layer padding
		if err := Decap(b, &h); err != nil || !bytes.Equal(b.Bytes(), inner) {
			t.Errorf("%s: Decap = %v, %x, want %x", tt.name, err, b.Bytes(), inner)
		}
	}
}

func TestEncapErrors(t *testing.T) {
	inner := pkttest.UDP(4, 10)
	tight := &packet.Buffer{B: append(make([]byte, 19), inner...), Off: 19, End: 19 + len(inner)}
	big := pkttest.Buffer(pkttest.IP(4, 253, nil, make([]byte, 65501-20)))
	short6 := pkttest.Buffer(append([]byte{0x60}, make([]byte, 38)...))
	for _, tt := range []struct {
		name     string
		b        *packet.Buffer
		src, dst netip.Addr
		want     error
	}{
		{"two families", pkttest.Buffer(inner), out4a, out6b, ErrFamily},
		{"no source", pkttest.Buffer(inner), netip.Addr{}, out6b, ErrFamily},
		{"no destination", pkttest.Buffer(inner), out4a, netip.Addr{}, ErrFamily},
		{"empty", pkttest.Buffer(nil), out4a, out4b, ErrInner},
		{"not IP", pkttest.Buffer(make([]byte, 60)), out4a, out4b, ErrInner},
		{"short IPv6", short6, out4a, out4b, ErrInner},
		{"no room", tight, out4a, out4b, ErrRoom},
		{"too long", big, out4a, out4b, ErrTooLong},
	} {
		before := bytes.Clone(tt.b.Bytes())
		var h packet.Header
		if err := Encap(tt.b, &h, tt.src, tt.dst, 0, 64, 1); err != tt.want || h != (packet.Header{}) {
			t.Errorf("%s: Encap = %v with header %+v, want %v", tt.name, err, h, tt.want)
		}
		if !bytes.Equal(tt.b.Bytes(), before) {
			t.Errorf("%s: Encap changed the packet", tt.name)
		}
	}
}

func TestDecapErrors(t *testing.T) {
	frag := pkttest.IP(4, packet.ProtoIPIP, nil, pkttest.UDP(4, 10))
	frag[6] = 0x20
	for _, tt := range []struct {
		name string
		p    []byte
		want error
	}{
		{"UDP", pkttest.UDP(4, 60), ErrProto},
		{"fragment", frag, ErrFragment},
		{"version 5 inside", pkttest.IP(6, packet.ProtoIPv6, nil, bytes.Repeat([]byte{0x55}, 60)), ErrInner},
		{"nothing inside", pkttest.IP(4, packet.ProtoIPIP, nil, nil), ErrInner},
		{"19 bytes inside", pkttest.IP(4, packet.ProtoIPIP, nil, pkttest.UDP(4, 0)[:19]), ErrInner},
		{"39 bytes inside", pkttest.IP(4, packet.ProtoIPv6, nil, pkttest.UDP(6, 0)[:39]), ErrInner},
	} {
		b := pkttest.Buffer(tt.p)
		h := pkttest.Parse(t, b)
		if err := Decap(b, &h); err != tt.want || !bytes.Equal(b.Bytes(), tt.p) {
			t.Errorf("%s: Decap = %v, want %v and no change", tt.name, err, tt.want)
		}
	}
}

// TestMarks has all pairs of codepoints, for each pair of versions. The result is RFC
// 6040's figure 4, and the checksum of an inner IPv4 header stays right, or wrong.
func TestMarks(t *testing.T) {
	const lost = 4
	want := [4][4]byte{ // by inner and outer: Not-ECT, ECT(1), ECT(0), CE
		{0, 0, 0, lost},
		{1, 1, 1, 3},
		{2, 1, 2, 3},
		{3, 3, 3, 3},
	}
	setTOS := func(p []byte, tos byte) {
		if p[0]>>4 == 4 {
			p[1] = tos
			packet.FixChecksum(p)
		} else {
			p[0], p[1] = 0x60|tos>>4, p[1]&15|tos<<4
		}
	}
	for i := range byte(4) {
		for o := range byte(4) {
			for _, v := range [][2]int{{4, 4}, {4, 6}, {6, 4}, {6, 6}} {
				inner := pkttest.UDP(v[1], 10)
				if v[1] == 6 {
					inner[1], inner[2], inner[3] = 0xa, 0xbc, 0xde // a flow label
				}
				setTOS(inner, 0xb8|i)
				b := pkttest.Buffer(pkttest.IP(v[0], map[int]byte{4: packet.ProtoIPIP, 6: packet.ProtoIPv6}[v[1]], nil, inner))
				setTOS(b.Bytes(), o)
				h := pkttest.Parse(t, b)
				before := bytes.Clone(b.Bytes())
				err := Decap(b, &h)
				if want[i][o] == lost {
					if err != ErrCE || !bytes.Equal(b.Bytes(), before) {
						t.Errorf("%d in %d: Decap = %v, want %v and no change", i, o, err, ErrCE)
					}
					continue
				}
				setTOS(inner, 0xb8|want[i][o])
				if err != nil || !bytes.Equal(b.Bytes(), inner) {
					t.Errorf("IPv%d in IPv%d, codepoint %d in %d: Decap = %v, %x, want %x", v[1], v[0], i, o, err, b.Bytes(), inner)
				}
			}
		}
	}
	inner := pkttest.UDP(4, 10)
	setTOS(inner, 2)
	inner[10]++
	b := pkttest.Buffer(pkttest.IP(4, packet.ProtoIPIP, nil, inner))
	setTOS(b.Bytes(), 3)
	h := pkttest.Parse(t, b)
	if err := Decap(b, &h); err != nil || packet.Fold(packet.Sum(b.Bytes()[:20], 0)) == 0xffff {
		t.Errorf("a wrong checksum becomes right: %v, %x", err, b.Bytes()[:20])
	}
}

// TestOtherVersion: as in KLIPS, the inner packet determines its version.
func TestOtherVersion(t *testing.T) {
	for _, tt := range []struct {
		proto uint8
		inner []byte
	}{{packet.ProtoIPv6, pkttest.UDP(4, 10)}, {packet.ProtoIPIP, pkttest.UDP(6, 10)}} {
		b := pkttest.Buffer(pkttest.IP(4, tt.proto, nil, tt.inner))
		h := pkttest.Parse(t, b)
		if err := Decap(b, &h); err != nil || !bytes.Equal(b.Bytes(), tt.inner) {
			t.Errorf("Decap of version %d behind protocol %d = %v", tt.inner[0]>>4, tt.proto, err)
		}
	}
}

// TestExtensionHeaders: the outer IPv6 header may have some.
func TestExtensionHeaders(t *testing.T) {
	inner := pkttest.UDP(4, 10)
	b := pkttest.Buffer(pkttest.IP(6, packet.ProtoDstOpts, []byte{packet.ProtoIPIP, 0, 4, 1, 4, 1, 1, 0}, inner))
	h := pkttest.Parse(t, b)
	if err := Decap(b, &h); err != nil || !bytes.Equal(b.Bytes(), inner) {
		t.Errorf("Decap = %v, %x, want %x", err, b.Bytes(), inner)
	}
}

func TestAllocs(t *testing.T) {
	b := pkttest.Buffer(pkttest.UDP(4, 1000))
	n := testing.AllocsPerRun(100, func() {
		for _, o := range [][2]netip.Addr{{out4a, out4b}, {out6a, out6b}} {
			var h packet.Header
			if err := Encap(b, &h, o[0], o[1], 0, 64, 1); err != nil {
				t.Fatal(err)
			}
			if err := Decap(b, &h); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 {
		t.Errorf("Encap and Decap allocate %v times a packet, want 0", n)
	}
}

func FuzzDecap(f *testing.F) {
	f.Add(pkttest.IP(4, packet.ProtoIPIP, nil, pkttest.UDP(4, 10)))
	f.Add(pkttest.IP(6, packet.ProtoIPv6, nil, pkttest.UDP(6, 10)))
	f.Add(pkttest.IP(4, packet.ProtoIPv6, nil, []byte{0x60}))
	f.Fuzz(func(t *testing.T, p []byte) {
		b := &packet.Buffer{B: p, End: len(p)}
		h, ok := packet.ParseIP(p)
		if !ok || Decap(b, &h) != nil {
			return
		}
		if b.Off != h.Len || b.End != h.Total {
			t.Fatalf("Decap(%x) is from %d to %d, want %d to %d", p, b.Off, b.End, h.Len, h.Total)
		}
		if v := b.Bytes()[0] >> 4; v != 4 && v != 6 {
			t.Fatalf("Decap(%x) revealed version %d", p, v)
		}
	})
}

func BenchmarkEncap(b *testing.B) {
	buf := pkttest.Buffer(pkttest.UDP(4, 1000))
	b.ReportAllocs()
	var h packet.Header
	for b.Loop() {
		if err := Encap(buf, &h, out4a, out4b, 0, 64, 1); err != nil {
			b.Fatal(err)
		}
		buf.Pull(20)
	}
}

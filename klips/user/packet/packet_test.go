package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// addresses of an IPv6 header: 2001:db8::1 to 2001:db8::2
const addrs6 = "20010db8000000000000000000000001 20010db8000000000000000000000002"

var (
	a6 = netip.MustParseAddr("2001:db8::1")
	b6 = netip.MustParseAddr("2001:db8::2")
	a4 = netip.MustParseAddr("10.1.0.5")
	b4 = netip.MustParseAddr("10.2.0.5")
)

func TestParseIP(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Header
	}{
		{"IPv4", "4510 0015 102b 0000 40fd 55b5 0a010005 0a020005 55 ffff",
			Header{Version: 4, Src: a4, Dst: b4, Len: 20, Total: 21, Proto: 253, ProtoOff: 9, TOS: 0x10, TTL: 64, ID: 0x102b}},
		{"IPv4 options, DF", "4600 0018 0001 4000 0132 0000 0a010005 0a020005 94040000",
			Header{Version: 4, Src: a4, Dst: b4, Len: 24, Total: 24, Proto: 50, ProtoOff: 9, TTL: 1, ID: 1, DF: true, Options: true}},
		{"first fragment", "4500 0014 0001 2000 0132 0000 0a010005 0a020005",
			Header{Version: 4, Src: a4, Dst: b4, Len: 20, Total: 20, Proto: 50, ProtoOff: 9, TTL: 1, ID: 1, Frag: true}},
		{"last fragment", "4500 0014 0001 00b9 0132 0000 0a010005 0a020005",
			Header{Version: 4, Src: a4, Dst: b4, Len: 20, Total: 20, Proto: 50, ProtoOff: 9, TTL: 1, ID: 1, Frag: true, FragOff: 1480}},
		{"IPv6", "6a512345 0002 32 40" + addrs6 + "abcd ee",
			Header{Version: 6, Src: a6, Dst: b6, Len: 40, Total: 42, Proto: 50, ProtoOff: 6, TOS: 0xa5, TTL: 64, DF: true}},
		{"no next header", "60000000 0000 3b 40" + addrs6,
			Header{Version: 6, Src: a6, Dst: b6, Len: 40, Total: 40, Proto: 59, ProtoOff: 6, TTL: 64, DF: true}},
		{"hop by hop, routing, destination", "60000000 0030 00 40" + addrs6 +
			"2b00 010400000000 3c02 000120010db8 0000000000000000 0000000000000003 1100 010400000000 0102030405060708",
			Header{Version: 6, Src: a6, Dst: b6, Len: 80, Total: 88, Proto: 17, ProtoOff: 72, TTL: 64, DF: true}},
		{"first IPv6 fragment", "60000000 0010 2c 40" + addrs6 + "3200000100000007 0102030405060708",
			Header{Version: 6, Src: a6, Dst: b6, Len: 48, Total: 56, Proto: 50, ProtoOff: 40, TTL: 64, DF: true, Frag: true}},
		{"atomic fragment", "60000000 0010 2c 40" + addrs6 + "3200000600000007 0102030405060708",
			Header{Version: 6, Src: a6, Dst: b6, Len: 48, Total: 56, Proto: 50, ProtoOff: 40, TTL: 64, DF: true}},
		{"later fragment of a destination option", "60000000 0010 2c 40" + addrs6 + "3c0005a800000007 0102030405060708",
			Header{Version: 6, Src: a6, Dst: b6, Len: 48, Total: 56, Proto: 60, ProtoOff: 40, TTL: 64, DF: true, Frag: true, FragOff: 1448}},
		{"AH ends the chain", "60000000 0008 33 40" + addrs6 + "3200000600000007",
			Header{Version: 6, Src: a6, Dst: b6, Len: 40, Total: 48, Proto: 51, ProtoOff: 6, TTL: 64, DF: true}},
	} {
		got, ok := ParseIP(unhex(t, tt.in))
		if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); !ok || d != "" {
			t.Errorf("%s: ParseIP = %v (-want +got):\n%s", tt.name, ok, d)
		}
		for n := range got.Total {
			if _, ok := ParseIP(unhex(t, tt.in)[:n]); ok {
				t.Errorf("%s: ParseIP takes the first %d bytes", tt.name, n)
			}
		}
	}
}

func TestParseIPRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":                    "",
		"version 5":                "5500 0014 0000 0000 4011 0000 0a010005 0a020005",
		"header length 16":         "4400 0014 0000 0000 4011 0000 0a010005 0a020005",
		"total below header":       "4600 0014 0000 0000 4011 0000 0a010005 0a020005 00000000",
		"extension without length": "60000000 0000 00 40" + addrs6,
		"extension of 7 bytes":     "60000000 0007 00 40" + addrs6 + "11000104000000",
		"extension too long":       "60000000 0008 2b 40" + addrs6 + "1101010400000000",
		"fragment header of 4":     "60000000 0004 2c 40" + addrs6 + "11000001",
	} {
		if h, ok := ParseIP(unhex(t, in)); ok {
			t.Errorf("%s: ParseIP = %+v, want refused", name, h)
		}
	}
}

func TestBuffer(t *testing.T) {
	b := &Buffer{B: []byte("0123456789"), Off: 3, End: 7}
	for _, tt := range []struct {
		name string
		f    func(int) bool
		n    int
		ok   bool
		want string
	}{
		{"Push", b.Push, 4, false, "3456"}, {"Push", b.Push, -1, false, "3456"}, {"Push", b.Push, 3, true, "0123456"},
		{"Grow", b.Grow, 4, false, "0123456"}, {"Grow", b.Grow, -1, false, "0123456"}, {"Grow", b.Grow, 3, true, "0123456789"},
		{"Pull", b.Pull, 11, false, "0123456789"}, {"Pull", b.Pull, -1, false, "0123456789"}, {"Pull", b.Pull, 6, true, "6789"},
		{"Trim", b.Trim, 5, false, "6789"}, {"Trim", b.Trim, -1, false, "6789"}, {"Trim", b.Trim, 4, true, ""},
	} {
		if ok := tt.f(tt.n); ok != tt.ok || string(b.Bytes()) != tt.want || b.Len() != len(tt.want) {
			t.Errorf("%s(%d) = %v, holds %q, want %v, %q", tt.name, tt.n, ok, b.Bytes(), tt.ok, tt.want)
		}
	}
	if c := cap((&Buffer{B: make([]byte, 9), End: 4}).Bytes()); c != 4 {
		t.Errorf("Bytes has capacity %d, want 4: appending must not write behind the packet", c)
	}
}

func TestChecksum(t *testing.T) {
	// RFC 1071 section 3.
	if got := Fold(Sum(unhex(t, "0001f203f4f5f6f7"), 0)); got != 0xddf2 {
		t.Errorf("RFC 1071 example: %#x, want 0xddf2", got)
	}
	// A recorded header.
	p := unhex(t, "4500007c1e820000403247ba0a0900010a090002")
	p[10], p[11] = 0x12, 0x34
	FixChecksum(p)
	if p[10] != 0x47 || p[11] != 0xba {
		t.Errorf("FixChecksum made %x, want 47ba", p[10:12])
	}
	p6 := unhex(t, "6000000000003b40"+addrs6)
	before := bytes.Clone(p6)
	if FixChecksum(p6); !bytes.Equal(p6, before) {
		t.Error("FixChecksum changed an IPv6 header")
	}
	rapid.Check(t, func(r *rapid.T) {
		p := rapid.SliceOf(rapid.Byte()).Draw(r, "p")
		start := rapid.Uint16().Draw(r, "start")
		want := uint32(start)
		for i := 0; i < len(p); i += 2 { // word by word, with immediate carry
			w := uint32(p[i]) << 8
			if i+1 < len(p) {
				w |= uint32(p[i+1])
			}
			if want += w; want > 0xffff {
				want = want&0xffff + 1
			}
		}
		if got := Fold(Sum(p, uint64(start))); uint32(got) != want {
			r.Fatalf("Sum(%x, %#x) = %#x, want %#x", p, start, got, want)
		}
	})
}

func TestSetTotal(t *testing.T) {
	p := make([]byte, 40)
	p[0] = 0x45
	if SetTotal(p, 1234); binary.BigEndian.Uint16(p[2:]) != 1234 {
		t.Errorf("IPv4 total length %x, want 1234", p[2:4])
	}
	p[0] = 0x60
	if SetTotal(p, 1234); binary.BigEndian.Uint16(p[4:]) != 1194 {
		t.Errorf("IPv6 payload length %x, want 1194", p[4:6])
	}
}

func FuzzParseIP(f *testing.F) {
	f.Add(unhex(f, "4500007c1e820000403247ba0a0900010a090002"))
	f.Add(unhex(f, "60000000 0030 00 40"+addrs6+
		"2b00 010400000000 3c02 000120010db8 0000000000000000 0000000000000003 1100 010400000000 0102030405060708"))
	f.Add(unhex(f, "60000000 0010 2c 40"+addrs6+"3c0005a800000007 0102030405060708"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := ParseIP(p)
		dst := Dst(p)
		if !ok {
			return
		}
		if dst != h.Dst {
			t.Fatalf("Dst(%x) = %v, ParseIP has %v", p, dst, h.Dst)
		}
		if h.Total > len(p) || h.Len > h.Total || h.Len < 20 || h.ProtoOff >= h.Len || p[h.ProtoOff] != h.Proto ||
			int(h.Version) != int(p[0]>>4) || (h.FragOff > 0 && !h.Frag) || (h.Version == 6 && h.Len < 40) {
			t.Fatalf("ParseIP(%x) = %+v", p, h)
		}
		again, ok := ParseIP(p[:h.Total])
		if !ok || again != h {
			t.Fatalf("without what is behind: %+v, %v, want %+v", again, ok, h)
		}
		q := bytes.Clone(p[:h.Total])
		SetTotal(q, h.Total)
		if !bytes.Equal(q, p[:h.Total]) {
			t.Fatalf("SetTotal changed %x to %x", p, q)
		}
		FixChecksum(q)
		if h.Version == 4 && Fold(Sum(q[:h.Len], 0)) != 0xffff {
			t.Fatalf("checksum of %x", q)
		}
	})
}

func BenchmarkParseIP(b *testing.B) {
	for name, p := range map[string][]byte{
		"4": unhex(b, "4500001000000000403247ba0a0900010a090002"),
		"6": unhex(b, "6000000000003b40"+addrs6),
	} {
		SetTotal(p, len(p))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := ParseIP(p); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}

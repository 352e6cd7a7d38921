package udpencap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// esp returns an ESP packet from 192.0.2.1 to 192.0.2.2, or from 2001:db8::1 to
// 2001:db8::2.
func esp(t testing.TB, version int) []byte {
	payload := pkttest.Hex(t, "00001000 00000001 0102030405060708")
	return pkttest.IP(version, packet.ProtoESP, nil, payload)
}

// The bytes are those of RFC 3948 section 2.1, and of the older draft, section 2.2.
func TestEncap(t *testing.T) {
	for _, tt := range []struct {
		natt klips.NATT
		udp  string // over IPv4
	}{
		{klips.NATT{Type: klips.NATTNonESP}, "1194 1194 0018 0000"},
		{klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 0x1234}, "1194 1234 0018 0000"},
		{klips.NATT{Type: klips.NATTNonIKE}, "01f4 01f4 0020 0000 0000000000000000"},
	} {
		for _, version := range []int{4, 6} {
			plain := esp(t, version)
			b := pkttest.Buffer(plain)
			h := pkttest.Parse(t, b)
			want := pkttest.Hex(t, tt.udp)
			if err := Encap(b, &h, tt.natt); err != nil {
				t.Fatal(err)
			}
			if again := pkttest.Parse(t, b); again != h {
				t.Errorf("the header is %+v, and said to be %+v", again, h)
			}
			got := bytes.Clone(b.Bytes()[h.Len : h.Len+len(want)])
			if version == 6 {
				if got[6]|got[7] == 0 {
					t.Errorf("%v over IPv6 has no checksum", tt.natt)
				}
				got[6], got[7] = 0, 0
			}
			if !bytes.Equal(got, want) || len(want) != Overhead(tt.natt.Type) {
				t.Errorf("%v: %x, want %x", tt.natt, got, want)
			}
			if !checksumRight(b.Bytes(), &h) {
				t.Errorf("%v over IPv%d: the checksum is wrong", tt.natt, version)
			}
			o, err := Decap(b, &h)
			if n := tt.natt.WithPorts(); err != nil || o != (Outer{n.Type, n.SPort, n.DPort}) || !bytes.Equal(b.Bytes(), plain) {
				t.Errorf("Decap = %+v, %v, %x; want %+v, %x", o, err, b.Bytes(), n, plain)
			}
			if again := pkttest.Parse(t, b); again != h {
				t.Errorf("after Decap the header is %+v, and said to be %+v", again, h)
			}
		}
	}
}

// The UDP header has the length of the ESP packet. The IP packet may be longer; a UDP
// header with a greater length than the packet is invalid (RFC 768).
func TestDecapLength(t *testing.T) {
	for _, version := range []int{4, 6} {
		for _, natt := range []klips.NATT{{Type: klips.NATTNonESP}, {Type: klips.NATTNonIKE}} {
			plain := esp(t, version)
			b := pkttest.Buffer(plain)
			h := pkttest.Parse(t, b)
			if err := Encap(b, &h, natt); err != nil {
				t.Fatal(err)
			}
			exact := h.Total - h.Len
			for _, tt := range []struct{ length, behind int }{
				{exact, 0}, {exact, 1}, {exact, 20}, {exact + 1, 0}, {0xffff, 0}, {7, 0}, {0, 0}, {8, 0}, {16, 0},
			} {
				p := append(bytes.Clone(b.Bytes()), bytes.Repeat([]byte{0xee}, tt.behind)...)
				packet.SetTotal(p, len(p))
				packet.FixChecksum(p)
				p[h.Len+4], p[h.Len+5] = byte(tt.length>>8), byte(tt.length)
				c := pkttest.Buffer(p)
				hc := pkttest.Parse(t, c)
				before := hc
				_, err := Decap(c, &hc)
				switch {
				case tt.length == exact && (err != nil || !bytes.Equal(c.Bytes(), plain) || hc != pkttest.Parse(t, c)):
					t.Errorf("%v over IPv%d with %d bytes behind: Decap = %v, header %+v of %x, want %x", natt, version, tt.behind, err, hc, c.Bytes(), plain)
				case tt.length != exact && (err != ErrNotESP || hc != before || !bytes.Equal(c.Bytes(), p)):
					t.Errorf("%v over IPv%d of length %d: Decap = %v, want no change and %v", natt, version, tt.length, err, ErrNotESP)
				}
			}
		}
	}
}

// checksumRight adds a UDP packet up, as a receiver does (RFC 768): 0 over IPv4 means
// no checksum.
func checksumRight(p []byte, h *packet.Header) bool {
	if h.Version == 4 && p[h.Len+6]|p[h.Len+7] == 0 {
		return true
	}
	sum := uint32(h.Proto) + uint32(h.Total-h.Len)
	add := func(b []byte) {
		for i, c := range b {
			sum += uint32(c) << (8 * (1 - i%2))
		}
	}
	if h.Version == 4 {
		add(p[12:20])
	} else {
		add(p[8:40])
	}
	add(p[h.Len:h.Total])
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum == 0xffff
}

func TestEncapRefusals(t *testing.T) {
	long := pkttest.Buffer(pkttest.IP(4, packet.ProtoESP, nil, make([]byte, packet.MaxSize-20)))
	h := pkttest.Parse(t, long)
	if err := Encap(long, &h, klips.NATT{Type: klips.NATTNonESP}); !errors.Is(err, ErrTooLong) || h.Proto != packet.ProtoESP {
		t.Errorf("a packet of %d bytes: %v", packet.MaxSize, err)
	}
	b := pkttest.Buffer(esp(t, 4))
	b.B, b.Off, b.End = b.Bytes(), 0, b.Len()
	h = pkttest.Parse(t, b)
	if err := Encap(b, &h, klips.NATT{Type: klips.NATTNonESP}); !errors.Is(err, ErrRoom) || h.Proto != packet.ProtoESP {
		t.Errorf("no room: %v", err)
	}
}

// A packet without ESP is not changed.
func TestDecapRefusals(t *testing.T) {
	for name, payload := range map[string]string{
		"a keepalive":             "1194 1194 0009 0000 ff",
		"IKE (RFC 3948 2.2)":      "1194 1194 0018 0000 00000000 0102030405060708 090a0b0c",
		"nothing":                 "1194 1194 0008 0000",
		"half a header":           "1194 1194",
		"an SPI alone":            "1194 1194 0010 0000 00001000 00000001",
		"zeros alone (the draft)": "01f4 01f4 0010 0000 0000000000000000",
	} {
		p := pkttest.IP(4, packet.ProtoUDP, nil, pkttest.Hex(t, payload))
		b := pkttest.Buffer(p)
		h := pkttest.Parse(t, b)
		was := h
		if _, err := Decap(b, &h); !errors.Is(err, ErrNotESP) || h != was || !bytes.Equal(b.Bytes(), p) {
			t.Errorf("%s: %v, %x", name, err, b.Bytes())
		}
	}
}

// A NAT changes the source and the outer checksums, but cannot change the encrypted
// ones. Mend repairs these.
func TestMend(t *testing.T) {
	for _, version := range []int{4, 6} {
		sent := pkttest.UDP(version, 33)
		b := pkttest.Buffer(sent)
		h := pkttest.Parse(t, b)
		Checksum(b.Bytes(), &h)
		sent = bytes.Clone(b.Bytes())
		oa, outside := h.Src, h.Src.Next().Next()
		p := b.Bytes()
		if version == 4 {
			copy(p[12:], outside.AsSlice())
			packet.FixChecksum(p)
		} else {
			copy(p[8:], outside.AsSlice())
		}
		h = pkttest.Parse(t, b)
		Mend(b, &h, oa)
		if !bytes.Equal(b.Bytes(), sent) || h != pkttest.Parse(t, b) {
			t.Errorf("IPv%d: %x, want %x", version, b.Bytes(), sent)
		}
		// Without the original address, the checksum is that of the visible source.
		copy(b.Bytes(), sent)
		h = pkttest.Parse(t, b)
		Readdress(b, &h, outside)
		Mend(b, &h, netip.Addr{})
		if !checksumRight(b.Bytes(), &h) || h != pkttest.Parse(t, b) {
			t.Errorf("IPv%d with another destination: %x", version, b.Bytes())
		}
	}
}

// Decap either makes any packet an ESP packet from which Encap makes the same packet
// again, or leaves it unchanged.
func FuzzDecap(f *testing.F) {
	for _, version := range []int{4, 6} {
		for _, payload := range []string{
			"1194 1194 0018 0000 00001000 00000001 0102030405060708", "01f4 01f4 0020 0000 0000000000000000 00001000 00000001 0102030405060708",
			"1194 1194 0009 0000 ff", "01f4 01f4 0017 0000 0000000000000000 00001000 00000000 0101020304050607", "1194 1194 0018 0000 00000000 0102030405060708", "", "1194",
		} {
			f.Add(pkttest.IP(version, packet.ProtoUDP, nil, pkttest.Hex(f, payload)))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := packet.ParseIP(p)
		if !ok || h.Total != len(p) || len(p) > packet.MaxSize {
			return
		}
		b := pkttest.Buffer(p)
		was := h
		o, err := Decap(b, &h)
		if err != nil {
			if h != was || !bytes.Equal(b.Bytes(), p) {
				t.Fatalf("%v, but %x became %x", err, p, b.Bytes())
			}
			return
		}
		if again, ok := packet.ParseIP(b.Bytes()); !ok || again != h {
			t.Fatalf("%x has the header %+v, and is said to have %+v", b.Bytes(), again, h)
		}
		if o.SPort == 0 || o.DPort == 0 {
			return // Encap replaces these
		}
		if err := Encap(b, &h, klips.NATT{Type: o.Type, SPort: o.SPort, DPort: o.DPort}); err != nil {
			t.Fatal(err)
		}
		// What follows the UDP datagram is dropped.
		whole := p[:h.Len+int(binary.BigEndian.Uint16(p[h.Len+4:]))]
		off := h.Len + Overhead(o.Type)
		if h.Total != len(whole) || !bytes.Equal(b.Bytes()[h.Len:h.Len+4], whole[h.Len:h.Len+4]) || !bytes.Equal(b.Bytes()[off:], whole[off:]) {
			t.Fatalf("%x became %x", p, b.Bytes())
		}
	})
}

package rawip

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

func buffer(p []byte) *packet.Buffer {
	b := &packet.Buffer{B: make([]byte, packet.Headroom+len(p)+packet.Tailroom), Off: packet.Headroom}
	b.End = b.Off + copy(b.B[b.Off:], p)
	return b
}

// The header of an IPv6 packet is made from the kernel's control messages.
func TestHeader6(t *testing.T) {
	src, dst := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	p := bytes.Repeat([]byte{0xee}, 40+9)
	header6(p, packet.ProtoESP, src, &mmsg.Info{Dst: dst, HopLimit: 7, Class: 0xb9, Label: 0x12345}, 9)
	h, ok := packet.ParseIP(p)
	if !ok || h.Version != 6 || h.Src != src || h.Dst != dst || h.Proto != packet.ProtoESP || h.TTL != 7 || h.TOS != 0xb9 || h.Len != 40 || h.Total != 49 {
		t.Errorf("header %+v, %v", h, ok)
	}
	if want := []byte{0x6b, 0x91, 0x23, 0x45, 0, 9}; !bytes.Equal(p[:6], want) {
		t.Errorf("begins with %x, want %x", p[:6], want)
	}
}

// FuzzHeader6: a packet of any length and class can be parsed.
func FuzzHeader6(f *testing.F) {
	f.Add(uint8(50), uint8(64), uint8(0), uint16(8), []byte("sixteen bytes ad"))
	f.Fuzz(func(t *testing.T, proto, hops, class uint8, size uint16, addr []byte) {
		proto = []uint8{packet.ProtoESP, packet.ProtoAH, packet.ProtoUDP}[proto%3] // the protocols of a Receiver
		var a [16]byte
		copy(a[:], addr)
		src := netip.AddrFrom16(a)
		p := make([]byte, 40+int(size))
		header6(p, proto, src, &mmsg.Info{Dst: src, HopLimit: hops, Class: class}, int(size))
		h, ok := packet.ParseIP(p)
		if !ok || h.Total != len(p) || h.Src != src || h.Dst != src || h.TTL != hops || h.TOS != class {
			t.Errorf("header %+v, %v of protocol %d and %d bytes", h, ok, proto, size)
		}
	})
}

// Extension headers that do not lead to the protocol of the socket are not used.
func TestChained(t *testing.T) {
	pad := func(next, n uint8) []byte {
		return append([]byte{next, n, 1, 4, 0, 0, 0, 0}, make([]byte, 8*int(n))...)
	}
	for _, tt := range []struct {
		name  string
		first uint8
		ext   []byte
		want  bool
	}{
		{"one", 60, pad(51, 0), true},
		{"three", 0, slices.Concat(pad(60, 1), pad(43, 0), pad(51, 3)), true},
		{"another protocol", 60, pad(50, 0), false},
		{"one is missing", 0, slices.Concat(pad(44, 0), pad(51, 0)), false},
		{"no extension header", 51, pad(51, 0), false},
		{"cut short", 60, pad(51, 1)[:8], false},
		{"half a header", 60, pad(51, 0)[:4], false},
		{"half a header behind", 0, append(pad(60, 0), 51, 0), false},
		{"as long as there is room", 60, pad(51, 55), true},
		{"longer", 60, pad(51, 56), false},
	} {
		in := mmsg.Info{First: tt.first, Ext: tt.ext}
		if got := chained(&in, packet.ProtoAH); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if !tt.want {
			continue
		}
		p := make([]byte, 40+len(tt.ext)+12)
		in.Dst = netip.IPv6Loopback()
		header6(p, packet.ProtoAH, in.Dst, &in, 12)
		if h, ok := packet.ParseIP(p); !ok || h.Proto != packet.ProtoAH || h.Len != 40+len(tt.ext) || h.Total != len(p) {
			t.Errorf("%s: header %+v, %v", tt.name, h, ok)
		}
	}
}

// On a host without IPv6, IPv6 packets fail one by one, and others do not.
func TestSendWithoutFamily(t *testing.T) {
	s := &Sender{fd4: -1, fd6: -1}
	s.sends = newSends(s, 2)
	v4, v6 := make([]byte, 20), make([]byte, 40)
	v4[0], v6[0] = 0x45, 0x60
	var pkts, failed []*packet.Buffer
	for _, p := range [][]byte{v4, v4, v4, v6, v4, v6, v6, v6} {
		pkts = append(pkts, buffer(p))
	}
	s.Send(slices.Clone(pkts), func(b *packet.Buffer, err error) {
		if err != unix.EAFNOSUPPORT {
			t.Errorf("packet %d: %v, want EAFNOSUPPORT", slices.Index(pkts, b), err)
		}
		failed = append(failed, b)
	}, nil)
	if !slices.Equal(failed, pkts) {
		t.Errorf("%d packets failed, want all %d in order", len(failed), len(pkts))
	}
	s.Send(nil, func(*packet.Buffer, error) { t.Error("a packet failed where there was none") }, nil)
	s.SetMTU(1400)
	if s.MTU() != 1400 {
		t.Errorf("MTU = %d, want 1400", s.MTU())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A packet that comes alone does not wait for others, and many wait longer than few.
func TestNapAfter(t *testing.T) {
	for packets, want := range map[int]time.Duration{
		0: 0, 1: 0, 2: 50 * time.Microsecond, 5: 50 * time.Microsecond, 20: 200 * time.Microsecond, 40: 400 * time.Microsecond, 1000: 400 * time.Microsecond,
	} {
		if got := napAfter(packets); got != want {
			t.Errorf("after %d packets: %v, want %v", packets, got, want)
		}
	}
}

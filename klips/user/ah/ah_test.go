package ah

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

var algs = []alg.Auth{alg.MD5, alg.SHA1, alg.SHA256, alg.SHA384, alg.SHA512, alg.SHA256Trunc}

func config(a alg.Auth) Config {
	info, _ := a.Info()
	k := make([]byte, info.KeyBits[0]/8)
	for i := range k {
		k[i] = byte(i * 3)
	}
	return Config{SPI: 0x1103, Auth: a, Key: k}
}

func pair(t testing.TB, a alg.Auth) (*Sealer, *Opener) {
	t.Helper()
	s, err := NewSealer(config(a))
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener(config(a))
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

func TestOverhead(t *testing.T) {
	for _, tt := range []struct {
		alg    alg.Auth
		v4, v6 int
	}{
		{alg.MD5, 24, 24}, {alg.SHA1, 24, 24}, {alg.SHA256Trunc, 24, 24},
		{alg.SHA256, 28, 32}, {alg.SHA384, 36, 40}, {alg.SHA512, 44, 48},
	} {
		s, _ := pair(t, tt.alg)
		if v4, v6 := s.Overhead(4), s.Overhead(6); v4 != tt.v4 || v6 != tt.v6 {
			t.Errorf("algorithm %d: Overhead = %d and %d, want %d and %d", tt.alg, v4, v6, tt.v4, tt.v6)
		}
	}
}

// TestVectors: packets are sealed and opened as KLIPS and scapy do it; AH has no random IV,
// so the bytes must be the same.
func TestVectors(t *testing.T) {
	for _, v := range Vectors() {
		if err := v.Check(); err != nil {
			t.Errorf("%s: %v", v.Source, err)
		}
		for name, change := range map[string]func(w *Vector){
			"algorithm":       func(w *Vector) { w.Auth = alg.AuthNone },
			"key":             func(w *Vector) { w.Key = "ff" + w.Key[2:] },
			"SPI":             func(w *Vector) { w.SPI++ },
			"sequence number": func(w *Vector) { w.Seq++ },
			"clear packet":    func(w *Vector) { w.Clear += "00" },
			"sealed packet":   func(w *Vector) { w.Wire = w.Wire[:len(w.Wire)-2] + "ff" },
		} {
			w := v
			change(&w)
			if w.Check() == nil {
				t.Errorf("%s with another %s passes", v.Source, name)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, a := range algs {
		s, o := pair(t, a)
		for _, version := range []int{4, 6} {
			for n := range 20 {
				clear := pkttest.IP(version, 253, nil, pkttest.Payload(n))
				b := pkttest.Buffer(clear)
				b.Grow(3)
				if err := seal(s, b, uint64(n)); err != nil {
					t.Fatalf("Seal = %v", err)
				}
				if got, want := b.Len(), len(clear)+s.Overhead(uint8(version)); got != want {
					t.Fatalf("algorithm %d: Seal made %d bytes, want %d", a, got, want)
				}
				b.Grow(3)
				h := pkttest.Parse(t, b)
				if h.Proto != packet.ProtoAH {
					t.Fatalf("protocol %d, want 51", h.Proto)
				}
				if spi, seq, err := ParseHeader(b, &h); spi != 0x1103 || seq != uint32(n) || err != nil {
					t.Fatalf("ParseHeader = %#x, %d, %v", spi, seq, err)
				}
				if err := o.Verify(b, &h, 0); err != nil {
					t.Fatalf("algorithm %d IPv%d: Verify = %v", a, version, err)
				}
				if err := o.Open(b, &h); err != nil || !bytes.Equal(b.Bytes(), clear) {
					t.Fatalf("algorithm %d IPv%d: Open = %v, %x, want %x", a, version, err, b.Bytes(), clear)
				}
			}
		}
	}
}

// mutable are the bits of the IP headers that may change on the way.
var mutable = map[int]map[int]byte{
	4: {1: 0xff, 6: 0xff, 7: 0xff, 8: 0xff, 10: 0xff, 11: 0xff},
	6: {0: 0x0f, 1: 0xff, 2: 0xff, 3: 0xff, 7: 0xff},
}

// TestTampered flips each bit: only packets with changed mutable bits pass.
func TestTampered(t *testing.T) {
	for _, a := range algs {
		s, o := pair(t, a)
		for _, version := range []int{4, 6} {
			b := pkttest.Buffer(pkttest.UDP(version, 13))
			if err := seal(s, b, 1); err != nil {
				t.Fatal(err)
			}
			wire := bytes.Clone(b.Bytes())
			h := pkttest.Parse(t, b)
			for i := range len(wire) * 8 {
				at, bit := i/8, byte(1)<<(i%8)
				if at == 0 && bit >= 0x10 || at == 0 && version == 4 || at == h.Len+1 {
					continue // version, header length: other headers, not other bits
				}
				if version == 4 && (at == 2 || at == 3) || version == 6 && (at == 4 || at == 5) {
					continue // total length
				}
				b.Put(wire)
				b.Bytes()[at] ^= bit
				var want error = ErrAuth
				if mutable[version][at]&bit != 0 {
					want = nil
				}
				if err := o.Verify(b, &h, 0); err != want {
					t.Fatalf("algorithm %d IPv%d: Verify with byte %d changed by %#x = %v, want %v", a, version, at, bit, err, want)
				}
			}
		}
	}
}

// TestOptions seals packets with options and extension headers, changes them as routers
// do, and verifies them.
func TestOptions(t *testing.T) {
	addr := func(n byte) []byte { return []byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n} }
	rh := func(typ, left byte, a ...[]byte) []byte {
		return append([]byte{packet.ProtoUDP, byte(2 * len(a)), typ, left, 0, 0, 0, 0}, bytes.Join(a, nil)...)
	}
	for _, tt := range []struct {
		name    string
		version int
		proto   uint8
		opts    []byte
		arrive  func(p []byte) // the changes on the way
		seal    error
		want    error
	}{
		{"router alert stays", 4, 17, []byte{148, 4, 0, 0}, nil, nil, nil},
		{"router alert changed", 4, 17, []byte{148, 4, 0, 0}, func(p []byte) { p[23] = 1 }, nil, ErrAuth},
		{"NOP and end are covered", 4, 17, []byte{1, 1, 0, 0}, func(p []byte) { p[20] = 0 }, nil, ErrAuth},
		{"padding behind the end is covered", 4, 17, []byte{1, 1, 0, 0}, func(p []byte) { p[23] = 9 }, nil, ErrAuth},
		{"record route filled in", 4, 17, []byte{1, 7, 7, 4, 0, 0, 0, 0}, func(p []byte) {
			copy(p[21:], []byte{7, 7, 8, 10, 0, 0, 1})
		}, nil, nil},
		{"time stamp", 4, 17, []byte{68, 8, 5, 0, 0, 0, 0, 0}, func(p []byte) { p[22], p[25] = 9, 77 }, nil, nil},
		{"unknown option", 4, 17, []byte{99, 4, 1, 2}, func(p []byte) { p[22] = 9 }, nil, nil},
		{"security option changed", 4, 17, []byte{130, 4, 1, 2}, func(p []byte) { p[22] = 9 }, nil, ErrAuth},
		{"loose source route walked", 4, 17, []byte{1, 131, 11, 4, 10, 0, 0, 1, 10, 0, 0, 2}, func(p []byte) {
			copy(p[21:], []byte{131, 11, 12, 192, 168, 0, 1, 192, 168, 0, 2})
			copy(p[16:], []byte{10, 0, 0, 2})
		}, nil, nil},
		{"source route to elsewhere", 4, 17, []byte{1, 131, 11, 4, 10, 0, 0, 1, 10, 0, 0, 2}, func(p []byte) {
			copy(p[21:], []byte{131, 11, 12, 192, 168, 0, 1, 192, 168, 0, 2})
			copy(p[16:], []byte{10, 0, 0, 3})
		}, nil, ErrAuth},
		{"source route of odd length", 4, 17, []byte{131, 8, 4, 10, 0, 0, 1, 10}, nil, ErrOptions, nil},
		{"option without length", 4, 17, []byte{1, 1, 1, 7}, nil, ErrOptions, nil},
		{"option of length 1", 4, 17, []byte{7, 1, 1, 1}, nil, ErrOptions, nil},
		{"option too long", 4, 17, []byte{7, 5, 1, 1}, nil, ErrOptions, nil},

		{"immutable destination option", 6, 60, []byte{17, 0, 0x1e, 4, 1, 2, 3, 4}, nil, nil, nil},
		{"immutable destination option changed", 6, 60, []byte{17, 0, 0x1e, 4, 1, 2, 3, 4}, func(p []byte) { p[44] = 9 }, nil, ErrAuth},
		{"mutable hop-by-hop option", 6, 0, []byte{17, 0, 0, 0x3e, 3, 1, 2, 3}, func(p []byte) { p[45], p[47] = 9, 9 }, nil, nil},
		{"its type is covered", 6, 0, []byte{17, 0, 0, 0x3e, 3, 1, 2, 3}, func(p []byte) { p[43] = 0x3d }, nil, ErrAuth},
		{"option beyond its header", 6, 0, []byte{17, 0, 0x3e, 5, 1, 2, 3, 4}, nil, ErrOptions, nil},
		{"routing header walked", 6, 43, rh(0, 3, addr(11), addr(12), addr(13)), func(p []byte) {
			dst := pkttest.Dst6.AsSlice()
			copy(p[24:], addr(13))
			p[43] = 0
			copy(p[48:], bytes.Join([][]byte{dst, addr(11), addr(12)}, nil))
		}, nil, nil},
		{"routing header to elsewhere", 6, 43, rh(0, 1, addr(11)), func(p []byte) {
			copy(p[24:], addr(14))
			p[43] = 0
			copy(p[48:], pkttest.Dst6.AsSlice())
		}, nil, ErrAuth},
		{"home address routing header", 6, 43, rh(2, 1, addr(11)), func(p []byte) {
			copy(p[24:], addr(11))
			p[43] = 0
			copy(p[48:], pkttest.Dst6.AsSlice())
		}, nil, nil},
		{"routing header at its end", 6, 43, rh(4, 0, addr(11)), nil, nil, nil},
		{"segment routing header on its way", 6, 43, rh(4, 1, addr(11)), nil, ErrOptions, nil},
		{"more segments than addresses", 6, 43, rh(0, 2, addr(11)), nil, ErrOptions, nil},
		{"fragment header", 6, 44, []byte{17, 0, 0, 1, 0, 0, 0, 7}, nil, ErrOptions, nil},
	} {
		s, o := pair(t, alg.SHA1)
		clear := pkttest.IP(tt.version, tt.proto, tt.opts, make([]byte, 16))
		b := pkttest.Buffer(clear)
		if err := seal(s, b, 1); err != tt.seal {
			t.Errorf("%s: Seal = %v, want %v", tt.name, err, tt.seal)
			continue
		}
		if tt.seal != nil {
			continue
		}
		if tt.arrive != nil {
			tt.arrive(b.Bytes())
		}
		h := pkttest.Parse(t, b)
		if err := o.Verify(b, &h, 0); err != tt.want {
			t.Errorf("%s: Verify = %v, want %v", tt.name, err, tt.want)
		}
		if tt.arrive == nil {
			if err := o.Open(b, &h); err != nil || !bytes.Equal(b.Bytes(), clear) {
				t.Errorf("%s: Open = %v, %x, want %x", tt.name, err, b.Bytes(), clear)
			}
		}
	}
}

func TestLengths(t *testing.T) {
	for _, a := range algs {
		s, o := pair(t, a)
		b := pkttest.Buffer(pkttest.UDP(4, 0))
		if err := seal(s, b, 1); err != nil {
			t.Fatal(err)
		}
		wire := bytes.Clone(b.Bytes())
		n := s.Overhead(4)
		for l := 20; l < len(wire); l++ {
			b.Put(wire[:l])
			packet.SetTotal(b.Bytes(), l)
			h := pkttest.Parse(t, b)
			want := ErrShort // even with nothing after AH
			if l > 20+n {
				want = ErrAuth
			}
			_, _, err := ParseHeader(b, &h)
			if short := l < 20+n; short != (err == ErrShort) {
				t.Errorf("algorithm %d: ParseHeader of %d bytes = %v", a, l, err)
			}
			if err := o.Verify(b, &h, 0); err != want {
				t.Errorf("algorithm %d: Verify of %d bytes = %v, want %v", a, l, err, want)
			}
			if err := o.Open(b, &h); (l < 20+n) != (err == ErrShort) {
				t.Errorf("algorithm %d: Open of %d bytes = %v", a, l, err)
			}
		}
		for f := range 256 {
			b.Put(wire)
			b.Bytes()[21] = byte(f)
			h := pkttest.Parse(t, b)
			want := ErrLength
			switch {
			case f == n/4-2:
				want = nil
			case f == (n+7)&^7/4-2:
				want = ErrAuth // it would have padding
			}
			if err := o.Verify(b, &h, 0); err != want {
				t.Errorf("algorithm %d: Verify with length field %d = %v, want %v", a, f, err, want)
			}
		}
	}
}

// With Align8 the header over IPv4 has zeros after the ICV, up to a multiple of 8 bytes.
func TestAlign8(t *testing.T) {
	for _, a := range algs {
		plain, o := pair(t, a)
		c := config(a)
		c.Align8 = true
		s, err := NewSealer(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []uint8{4, 6} {
			want := (plain.Overhead(version) + 7) &^ 7
			if n, size := s.Overhead(version), SizeOf(a, true).Overhead(version); n != want || size != want {
				t.Errorf("algorithm %d over IPv%d: %d bytes, Size says %d, want %d", a, version, n, size, want)
			}
			inner := pkttest.UDP(int(version), 40)
			b := pkttest.Buffer(inner)
			if err := seal(s, b, 1); err != nil {
				t.Fatal(err)
			}
			h := pkttest.Parse(t, b)
			if pad := b.Bytes()[h.Len+FixedLen+s.mac.Size() : h.Len+want]; bytes.ContainsFunc(pad, func(r rune) bool { return r != 0 }) ||
				int(b.Bytes()[h.Len+1]) != want/4-2 {
				t.Errorf("algorithm %d over IPv%d: header %x", a, version, b.Bytes()[h.Len:h.Len+want])
			}
			if err := o.Verify(b, &h, 1); err != nil {
				t.Errorf("algorithm %d over IPv%d: Verify = %v", a, version, err)
			}
			if err := o.Open(b, &h); err != nil || !bytes.Equal(b.Bytes(), inner) {
				t.Errorf("algorithm %d over IPv%d: Open = %v, %x, want %x", a, version, err, b.Bytes(), inner)
			}
		}
	}
}

// Over IPv4 the header may be padded to a multiple of 8 bytes. The padding has any value,
// and the ICV covers it (RFC 4302 section 3.3.3.2.1).
func TestPadded(t *testing.T) {
	for _, a := range algs {
		s, o := pair(t, a)
		n := s.Overhead(4)
		padded := (n + 7) &^ 7
		inner := pkttest.UDP(4, 40)
		b := pkttest.Buffer(inner)
		if err := seal(s, b, 1); err != nil {
			t.Fatal(err)
		}
		// By hand: the padding after the ICV, then a new ICV.
		p := bytes.Clone(b.Bytes())
		p = append(p[:20+n:20+n], append(bytes.Repeat([]byte{0xa5}, padded-n), p[20+n:]...)...)
		p[21] = byte(padded/4 - 2)
		packet.SetTotal(p, len(p))
		packet.FixChecksum(p)
		zeroed := bytes.Clone(p)
		clear(zeroed[20+FixedLen : 20+n])
		for _, i := range []int{1, 6, 7, 8, 10, 11} {
			zeroed[i] = 0
		}
		sum(s.mac, zeroed, p[20+FixedLen:20+n])
		for at := -1; at < padded-n; at++ {
			b.Put(p)
			want := error(nil)
			if at >= 0 {
				b.Bytes()[20+n+at]++
				want = ErrAuth
			}
			h := pkttest.Parse(t, b)
			if err := o.Verify(b, &h, 1); err != want {
				t.Fatalf("algorithm %d: Verify with padding byte %d changed = %v, want %v", a, at, err, want)
			}
			if want != nil {
				continue
			}
			if err := o.Open(b, &h); err != nil || !bytes.Equal(b.Bytes(), inner) {
				t.Errorf("algorithm %d: Open = %v, %x, want %x", a, err, b.Bytes(), inner)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	if _, err := NewSealer(Config{Auth: alg.AuthNone}); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("NewSealer without algorithm = %v, want ErrAlgorithm", err)
	}
	if _, err := NewOpener(Config{Auth: 9, Key: make([]byte, 16)}); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("NewOpener with AES-XCBC = %v, want ErrAlgorithm", err)
	}
	if _, err := NewOpener(Config{Auth: alg.MD5, Key: make([]byte, 20)}); !errors.Is(err, ErrKey) {
		t.Errorf("NewOpener with 160 bits for MD5 = %v, want ErrKey", err)
	}
	s, _ := pair(t, alg.MD5)
	p := pkttest.UDP(4, 20)
	tight := &packet.Buffer{B: append(make([]byte, 23), p...), Off: 23, End: 23 + len(p)}
	if err := seal(s, tight, 1); err != ErrRoom || !bytes.Equal(tight.Bytes(), p) {
		t.Errorf("Seal without room = %v, want ErrRoom and no change", err)
	}
	if err := seal(s, pkttest.Buffer(pkttest.IP(4, 253, nil, make([]byte, packet.MaxSize-43))), 1); err != ErrTooLong {
		t.Errorf("Seal of too much = %v, want ErrTooLong", err)
	}
	if err := seal(s, pkttest.Buffer(pkttest.IP(4, 253, nil, make([]byte, packet.MaxSize-44))), 1); err != nil {
		t.Errorf("Seal of the longest packet = %v", err)
	}
	b := pkttest.Buffer(p)
	if err := seal(s, b, 1); err != nil {
		t.Fatal(err)
	}
	b.Bytes()[6] |= 0x20
	h := pkttest.Parse(t, b)
	if _, _, err := ParseHeader(b, &h); err != ErrFragment {
		t.Errorf("ParseHeader of a fragment = %v, want ErrFragment", err)
	}
}

func TestAllocs(t *testing.T) {
	for _, a := range algs {
		for _, version := range []int{4, 6} {
			s, o := pair(t, a)
			clear := pkttest.UDP(version, 1000)
			b := pkttest.Buffer(clear)
			n := testing.AllocsPerRun(100, func() {
				b.Put(clear)
				if err := seal(s, b, 1); err != nil {
					t.Fatal(err)
				}
				h, _ := packet.ParseIP(b.Bytes())
				if err := o.Verify(b, &h, 0); err != nil {
					t.Fatal(err)
				}
				if err := o.Open(b, &h); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("algorithm %d IPv%d: Seal, Verify and Open allocate %v times a packet, want 0", a, version, n)
			}
		}
	}
}

// correct sets the right ICV of packet p, if its headers can be authenticated.
func correct(o *Opener, p []byte, h *packet.Header) {
	header := bytes.Clone(p[:h.Len])
	if predict(header, h) != nil {
		return
	}
	icv := p[h.Len+FixedLen:][:o.mac.Size()]
	clear(icv)
	swap(header, p)
	sum(o.mac, p, icv)
	swap(header, p)
}

// sum writes the ICV of p.
func sum(m *icv.MAC, p, to []byte) { m.Sums([]icv.Message{{Data: p, ICV: to[:m.Size()]}}) }

// FuzzOpen opens arbitrary AH packets with all algorithms, unchanged and with a
// corrected ICV.
func FuzzOpen(f *testing.F) {
	type sa struct {
		alg alg.Auth
		o   *Opener
	}
	var sas []sa
	for _, a := range algs {
		s, o := pair(f, a)
		sas = append(sas, sa{a, o})
		for _, p := range [][]byte{
			pkttest.UDP(4, 9), pkttest.UDP(6, 9),
			pkttest.IP(4, 17, []byte{131, 7, 4, 10, 0, 0, 1, 0}, make([]byte, 9)),
			pkttest.IP(6, 0, []byte{17, 0, 0, 0x3e, 3, 1, 2, 3}, make([]byte, 9)),
			pkttest.IP(6, 43, append([]byte{17, 2, 0, 1, 0, 0, 0, 0}, make([]byte, 16)...), make([]byte, 9)),
		} {
			b := pkttest.Buffer(p)
			if err := seal(s, b, 1); err != nil {
				f.Fatal(err)
			}
			f.Add(bytes.Clone(b.Bytes()))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, sa := range sas {
			for _, fix := range []bool{false, true} {
				b := &packet.Buffer{B: bytes.Clone(p), End: len(p)}
				h, ok := packet.ParseIP(b.Bytes())
				if !ok {
					return
				}
				if _, _, err := ParseHeader(b, &h); err != nil {
					continue
				}
				n, err := sa.o.length(b, &h)
				if fix && err == nil {
					correct(sa.o, b.B[:h.Total], &h)
				}
				before := bytes.Clone(b.B)
				err = sa.o.Verify(b, &h, 0)
				if !bytes.Equal(b.B, before) {
					t.Fatalf("algorithm %d: Verify changed %x to %x", sa.alg, before, b.B)
				}
				if err != nil {
					continue
				}
				if err := sa.o.Open(b, &h); err != nil || b.Len() != h.Total-n {
					t.Fatalf("algorithm %d: Open of %x = %v, %x", sa.alg, before, err, b.Bytes())
				}
			}
		}
	})
}

func benchmark(b *testing.B, f func(b *testing.B, s *Sealer, o *Opener, size int)) {
	for _, a := range algs {
		for _, size := range []int{64, 1400} {
			info, _ := a.Info()
			b.Run(fmt.Sprintf("%s/%d", info.Listing[1:], size), func(b *testing.B) {
				s, o := pair(b, a)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				f(b, s, o, size)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	benchmark(b, func(b *testing.B, s *Sealer, _ *Opener, size int) {
		clear := pkttest.UDP(4, size-28)
		buf := pkttest.Buffer(clear)
		for b.Loop() {
			buf.Put(clear)
			if err := seal(s, buf, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	benchmark(b, func(b *testing.B, s *Sealer, o *Opener, size int) {
		buf := pkttest.Buffer(pkttest.UDP(4, size-28))
		if err := seal(s, buf, 1); err != nil {
			b.Fatal(err)
		}
		wire := bytes.Clone(buf.Bytes())
		for b.Loop() {
			buf.Put(wire)
			h, _ := packet.ParseIP(buf.Bytes())
			if err := o.Verify(buf, &h, 0); err != nil {
				b.Fatal(err)
			}
			if err := o.Open(buf, &h); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// seal seals the packet in b with s. The updated header must be the parsed one.
func seal(s *Sealer, b *packet.Buffer, seq uint64) error {
	h, ok := packet.ParseIP(b.Bytes())
	if !ok {
		panic("the test has no IP packet")
	}
	err := s.Seal(b, &h, seq)
	if got, _ := packet.ParseIP(b.Bytes()); err == nil && h != got {
		return fmt.Errorf("the header is said to be %+v, and is %+v", h, got)
	}
	return err
}

package esp

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// configs are all transforms that an ESP SA can have, by name.
func configs() map[string]Config {
	all := map[string]Config{}
	for _, e := range []alg.Enc{alg.TripleDES, alg.Null, alg.AES, alg.AESGCM, alg.ChaCha20Poly1305} {
		enc, _ := e.Info()
		for _, bits := range enc.KeyBits {
			for _, a := range []alg.Auth{alg.AuthNone, alg.MD5, alg.SHA1, alg.SHA256,
				alg.SHA384, alg.SHA512, alg.SHA256Trunc} {
				if enc.AEAD != (a == alg.AuthNone) && (enc.AEAD || e == alg.Null) {
					continue
				}
				auth, _ := a.Info()
				c := Config{SPI: 0x12345678, Transform: klips.Transform{Enc: e, Auth: a},
					EncKey: key(bits/8, 1), AuthKey: key(auth.KeyBits[0]/8, 101)}
				all[fmt.Sprintf("%s%d%s", enc.Listing[1:], bits, auth.Listing)] = c
			}
		}
	}
	return all
}

func key(n int, first byte) []byte {
	k := make([]byte, n)
	for i := range k {
		k[i] = first + byte(i)*7
	}
	return k
}

func pair(t testing.TB, c Config) (*Sealer, *Opener) {
	t.Helper()
	s, err := NewSealer(c)
	if err != nil {
		t.Fatalf("NewSealer = %v", err)
	}
	o, err := NewOpener(c)
	if err != nil {
		t.Fatalf("NewOpener = %v", err)
	}
	return s, o
}

func TestConfigsAreAll(t *testing.T) {
	// 3DES and three AES keys with seven, NULL with six, three GCM keys, ChaCha.
	if n := len(configs()); n != 4*7+6+3+1 {
		t.Fatalf("%d configurations, want 38", n)
	}
}

// TestRoundTrip seals and opens payloads of every length up to a few blocks with every
// transform, and checks all visible fields.
func TestRoundTrip(t *testing.T) {
	for name, c := range configs() {
		enc, _ := c.Transform.Enc.Info()
		s, o := pair(t, c)
		seq := uint32(0)
		for _, version := range []int{4, 6} {
			for n := range 70 {
				seq++
				clear := pkttest.IP(version, 253, nil, pkttest.Payload(n))
				b := pkttest.Buffer(clear)
				b.Grow(3) // link layer padding after the packet
				ip := len(clear) - n
				front, behind := s.Overhead(n)
				next := s.NextIV()
				if err := seal(s, b, uint64(seq)); err != nil {
					t.Fatalf("%s: Seal of %d bytes = %v", name, n, err)
				}
				if got, want := b.Len(), len(clear)+front+behind; got != want {
					t.Fatalf("%s: Seal of %d bytes made %d, want %d", name, n, got, want)
				}
				if got, want := front, 8+enc.IV; got != want {
					t.Fatalf("%s: front = %d, want %d", name, got, want)
				}
				if (b.Len()-ip)%4 != 0 || (behind-o.icv-2+n+2)%max(enc.Block, 4) != 0 || behind-o.icv-2 >= max(enc.Block, 4) {
					t.Fatalf("%s: Overhead(%d) = %d, %d: padding not minimal or not aligned", name, n, front, behind)
				}
				if iv := b.Bytes()[ip+8 : ip+8+enc.IV]; next != nil && !bytes.Equal(iv, next) {
					t.Fatalf("%s: IV %x, NextIV said %x", name, iv, next)
				}
				wire := bytes.Clone(b.Bytes())
				b.Grow(5)
				h := pkttest.Parse(t, b)
				if h.Total != len(wire) || h.Proto != packet.ProtoESP || h.TTL != 63 || h.TOS != 0x28 {
					t.Fatalf("%s: sealed header %+v", name, h)
				}
				if version == 4 && packet.Fold(packet.Sum(wire[:20], 0)) != 0xffff {
					t.Fatalf("%s: bad IP checksum", name)
				}
				if spi, q, err := ParseHeader(b, &h); spi != 0x12345678 || q != seq || err != nil {
					t.Fatalf("%s: ParseHeader = %#x, %d, %v", name, spi, q, err)
				}
				if bad, err := open(o, b, &h); bad || err != nil {
					t.Fatalf("%s: opening %x = %v, %v", name, wire, bad, err)
				}
				if !bytes.Equal(b.Bytes(), clear) {
					t.Fatalf("%s: %d bytes came back as\n%x, want\n%x", name, n, b.Bytes(), clear)
				}
			}
		}
	}
}

// TestTampered flips each bit of a packet after the IP header: none passes.
func TestTampered(t *testing.T) {
	for name, c := range configs() {
		s, o := pair(t, c)
		if !o.Authenticated() {
			continue
		}
		b := pkttest.Buffer(pkttest.UDP(4, 21))
		if err := seal(s, b, 1); err != nil {
			t.Fatal(err)
		}
		wire := bytes.Clone(b.Bytes())
		for i := 20 * 8; i < len(wire)*8; i++ {
			b.Put(wire)
			b.Bytes()[i/8] ^= 1 << (i % 8)
			h := pkttest.Parse(t, b)
			if err := o.Verify(b, &h, 0); err != ErrAuth {
				t.Fatalf("%s: Verify with bit %d changed = %v, want ErrAuth", name, i, err)
			}
			if _, err := o.Open(b, &h); err != ErrAuth {
				t.Fatalf("%s: Open after a failed Verify = %v, want ErrAuth", name, err)
			}
		}
		b.Put(wire)
		h := pkttest.Parse(t, b)
		if bad, err := open(o, b, &h); bad || err != nil {
			t.Fatalf("%s: the unchanged packet = %v, %v", name, bad, err)
		}
		if _, err := o.Open(b, &h); err == nil {
			t.Fatalf("%s: Open without Verify succeeds", name)
		}
	}
}

// TestExtensionHeaders checks the position of ESP in IPv6 (RFC 4303 section 3.1.1).
func TestExtensionHeaders(t *testing.T) {
	s, o := pair(t, configs()["AES128_HMAC_SHA1"])
	ext := append([]byte{packet.ProtoDstOpts, 0, 1, 4, 0, 0, 0, 0}, // hop by hop
		packet.ProtoUDP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	clear := pkttest.IP(6, packet.ProtoHopByHop, ext, pkttest.Payload(33))
	b := pkttest.Buffer(clear)
	if err := seal(s, b, 1); err != nil {
		t.Fatal(err)
	}
	p := b.Bytes()
	if p[6] != packet.ProtoHopByHop || p[40] != packet.ProtoDstOpts || p[48] != packet.ProtoESP {
		t.Errorf("next headers %d, %d, %d, want 0, 60, 50", p[6], p[40], p[48])
	}
	h := pkttest.Parse(t, b)
	if h.Len != 64 {
		t.Errorf("ESP begins at %d, want 64", h.Len)
	}
	if bad, err := open(o, b, &h); bad || err != nil || !bytes.Equal(b.Bytes(), clear) {
		t.Errorf("Open = %v, %v, made\n%x, want\n%x", bad, err, b.Bytes(), clear)
	}
}

// TestOverhead checks the space per layer in KLIPS' MTU rule, for 1500-byte packets.
func TestOverhead(t *testing.T) {
	for _, tt := range []struct {
		name          string
		payload       int
		front, behind int
	}{
		{"3DES192_HMAC_MD5", 1500, 16, 16},
		{"AES128_HMAC_SHA1", 1500, 24, 16},
		{"AES256_HMAC_SHA2_256", 1500, 24, 20},
		{"NULL0_HMAC_SHA1", 1500, 8, 16},
		{"3DES192_HMAC_MD5", 1480, 16, 20},
		{"3DES192", 84, 16, 4},
		{"AES_GCM160", 84, 16, 20},
		{"CHACHA20_POLY1305288", 82, 16, 18},
	} {
		c, ok := configs()[tt.name]
		if !ok {
			t.Fatalf("no configuration %s", tt.name)
		}
		s, _ := pair(t, c)
		if f, b := s.Overhead(tt.payload); f != tt.front || b != tt.behind {
			t.Errorf("%s: Overhead(%d) = %d, %d, want %d, %d", tt.name, tt.payload, f, b, tt.front, tt.behind)
		}
	}
}

// crafted returns a packet whose ESP has the given plaintext, including the trailer,
// and a right ICV.
func crafted(t testing.TB, c Config, plain []byte) *packet.Buffer {
	t.Helper()
	s, _ := pair(t, c)
	e := append(make([]byte, HeaderLen+s.iv), plain...)
	e[3] = 9
	switch {
	case s.aead != nil:
		n := append(s.salt[:], e[HeaderLen:HeaderLen+s.iv]...)
		e = append(e[:HeaderLen+s.iv], s.aead.Seal(nil, n, plain, e[:HeaderLen])...)
	default:
		e = append(e, make([]byte, s.icv)...)
		complete(s, e)
	}
	return pkttest.Buffer(pkttest.IP(4, packet.ProtoESP, nil, e))
}

func TestPadding(t *testing.T) {
	all := configs()
	for _, name := range []string{"NULL0_HMAC_MD5", "3DES192_HMAC_SHA1", "3DES192", "AES_GCM160"} {
		for _, tt := range []struct {
			plain   string
			payload int
			bad     bool
			err     error
		}{
			{"1111 1111 1111 0011", 6, false, nil},
			{"1111 1101 0203 0311", 3, false, nil},
			{"1111 1101 0204 0311", 3, true, nil},
			{"1111 1100 0000 0311", 3, true, nil},
			{"0102 0304 0506 0611", 0, false, nil},
			{"0102 0304 0506 0711", 0, true, ErrPadding},
			{"0102 0304 0506 ff11", 0, true, ErrPadding},
		} {
			b := crafted(t, all[name], pkttest.Hex(t, tt.plain))
			_, o := pair(t, all[name])
			h := pkttest.Parse(t, b)
			bad, err := open(o, b, &h)
			if bad != tt.bad || err != tt.err {
				t.Errorf("%s: Open of %s = %v, %v, want %v, %v", name, tt.plain, bad, err, tt.bad, tt.err)
			}
			if err == nil && (b.Len() != 20+tt.payload || b.Bytes()[9] != 0x11) {
				t.Errorf("%s: Open of %s made %x", name, tt.plain, b.Bytes())
			}
		}
	}
}

// TestLengths truncates a packet to every length.
func TestLengths(t *testing.T) {
	for name, c := range configs() {
		s, o := pair(t, c)
		b := pkttest.Buffer(pkttest.UDP(4, 100))
		if err := seal(s, b, 1); err != nil {
			t.Fatal(err)
		}
		wire := bytes.Clone(b.Bytes())
		for n := 20; n < len(wire); n++ {
			b.Put(wire[:n])
			packet.SetTotal(b.Bytes(), n)
			h := pkttest.Parse(t, b)
			_, _, err := ParseHeader(b, &h)
			switch {
			case n%4 != 0:
				if err != ErrShort {
					t.Errorf("%s: ParseHeader of %d bytes = %v, want ErrShort", name, n, err)
				}
				continue
			case n < 28:
				if err != ErrRunt || !errors.Is(err, ErrShort) {
					t.Errorf("%s: ParseHeader of %d bytes = %v, want ErrRunt", name, n, err)
				}
				continue
			case err != nil:
				t.Errorf("%s: ParseHeader of %d bytes = %v", name, n, err)
			}
			want := error(ErrAuth)
			switch {
			case !o.Authenticated():
				want = nil
			case o.aead != nil && n < 20+8+8+2+16, n <= 20+o.icv:
				want = ErrRunt
			}
			if err := o.Verify(b, &h, 0); err != want {
				t.Errorf("%s: Verify of %d bytes = %v, want %v", name, n, err, want)
			}
			if want == nil {
				_, err := o.Open(b, &h)
				if whole := n > 28+o.iv && (n-28-o.iv)%o.align == 0; whole == (err == ErrShort) {
					t.Errorf("%s: Open of %d bytes = %v", name, n, err)
				}
			}
		}
	}
}

// TestShortButAuthentic has packets with a right ICV but without a complete block.
func TestShortButAuthentic(t *testing.T) {
	c := configs()["AES128_HMAC_SHA1"]
	_, o := pair(t, c)
	for n := 0; n < 48; n += 4 {
		e := make([]byte, HeaderLen+n)
		p := append(e, make([]byte, o.icv)...)
		m := o.message(p, 0)
		o.mac.Sums([]icv.Message{m})
		b := pkttest.Buffer(pkttest.IP(4, packet.ProtoESP, nil, p))
		h := pkttest.Parse(t, b)
		if err := o.Verify(b, &h, 0); err != nil {
			t.Fatalf("Verify with %d bytes = %v", n, err)
		}
		_, err := o.Open(b, &h)
		if whole := n == 32; whole != (err != ErrShort) {
			t.Errorf("Open with %d bytes behind the header = %v", n, err)
		}
	}
}

func TestSealErrors(t *testing.T) {
	s, _ := pair(t, configs()["AES128_HMAC_SHA1"])
	clear := pkttest.UDP(4, 50)
	front, behind := s.Overhead(58)
	for _, tt := range []struct {
		off, room int
		want      error
	}{
		{front, behind, nil}, {front - 1, behind, ErrRoom}, {front, behind - 1, ErrRoom},
	} {
		b := &packet.Buffer{B: make([]byte, tt.off+len(clear)+tt.room), Off: tt.off, End: tt.off + len(clear)}
		copy(b.Bytes(), clear)
		err := seal(s, b, 1)
		if err != tt.want {
			t.Errorf("Seal with %d and %d bytes of room = %v, want %v", tt.off, tt.room, err, tt.want)
		}
		if err != nil && !bytes.Equal(b.Bytes(), clear) {
			t.Errorf("Seal with %d and %d bytes of room changed the packet", tt.off, tt.room)
		}
	}
	for n := 65400; n < 65500; n++ {
		f, r := s.Overhead(n - 20)
		want := error(nil)
		if n+f+r > packet.MaxSize {
			want = ErrTooLong
		}
		if err := seal(s, pkttest.Buffer(pkttest.IP(4, 253, nil, make([]byte, n-20))), 1); err != want {
			t.Fatalf("Seal of %d bytes = %v, want %v", n, err, want)
		}
	}
}

func TestFragment(t *testing.T) {
	p := pkttest.IP(4, packet.ProtoESP, nil, make([]byte, 64))
	p[6] = 0x20
	b := pkttest.Buffer(p)
	h := pkttest.Parse(t, b)
	if _, _, err := ParseHeader(b, &h); err != ErrFragment {
		t.Errorf("ParseHeader of a fragment = %v, want ErrFragment", err)
	}
}

func TestConfigErrors(t *testing.T) {
	tr := func(e alg.Enc, a alg.Auth) klips.Transform { return klips.Transform{Enc: e, Auth: a} }
	for _, tt := range []struct {
		t         klips.Transform
		enc, auth int // bytes of key
		want      error
	}{
		{tr(alg.EncNone, alg.MD5), 0, 16, ErrAlgorithm},
		{tr(alg.Null, alg.AuthNone), 0, 0, ErrAlgorithm},
		{tr(7, alg.MD5), 16, 16, ErrAlgorithm},
		{tr(alg.AES, 9), 16, 16, ErrAlgorithm},
		{tr(alg.AESGCM, alg.MD5), 20, 16, ErrAlgorithm},
		{tr(alg.AES, alg.MD5), 15, 16, ErrKey},
		{tr(alg.AES, alg.MD5), 16, 15, ErrKey},
		{tr(alg.AES, alg.AuthNone), 16, 16, ErrKey},
		{tr(alg.TripleDES, alg.MD5), 8, 16, ErrKey},
		{tr(alg.AESGCM, alg.AuthNone), 16, 0, ErrKey},
		{tr(alg.ChaCha20Poly1305, alg.AuthNone), 32, 0, ErrKey},
	} {
		c := Config{Transform: tt.t, EncKey: make([]byte, tt.enc), AuthKey: make([]byte, tt.auth)}
		if _, err := NewSealer(c); !errors.Is(err, tt.want) {
			t.Errorf("NewSealer(%+v) = %v, want %v", tt.t, err, tt.want)
		}
		if _, err := NewOpener(c); !errors.Is(err, tt.want) {
			t.Errorf("NewOpener(%+v) = %v, want %v", tt.t, err, tt.want)
		}
	}
}

// TestIVs: no IV comes twice; those of combined modes count up, those of CBC do not.
func TestIVs(t *testing.T) {
	all := configs()
	for _, name := range []string{"AES128_HMAC_SHA1", "3DES192_HMAC_MD5", "AES_GCM160", "CHACHA20_POLY1305288"} {
		seen := map[string]bool{}
		for range 4 { // four workers, or four restarts
			s, _ := pair(t, all[name])
			for i := range 500 {
				b := pkttest.Buffer(pkttest.UDP(4, 1))
				if err := seal(s, b, uint64(i)); err != nil {
					t.Fatal(err)
				}
				iv := string(b.Bytes()[28 : 28+s.iv])
				if seen[iv] {
					t.Fatalf("%s: IV %x comes twice", name, iv)
				}
				seen[iv] = true
			}
			if (s.NextIV() == nil) != (s.aead != nil) {
				t.Errorf("%s: NextIV = %x", name, s.NextIV())
			}
		}
	}
}

// TestIVStart: the IVs of a combined mode count up from a random number of each Sealer,
// whatever the sequence numbers. So an SA that continues an earlier one's numbers does
// not repeat its nonces, and neither do two hosts that have the same key by mistake.
func TestIVStart(t *testing.T) {
	for _, enc := range []alg.Enc{alg.AESGCM, alg.ChaCha20Poly1305} {
		info, _ := enc.Info()
		c := Config{SPI: 0x1000, Transform: klips.Transform{Enc: enc}, EncKey: make([]byte, info.KeyBits[0]/8)}
		seen := map[uint64]bool{}
		for range 8 {
			s, err := NewSealer(c)
			if err != nil {
				t.Fatal(err)
			}
			var first uint64
			for i, seq := range []uint64{1, 1, 2, 1 << 20, 1<<32 - 1} {
				b := packet.Buffer{B: make([]byte, 200), Off: 60, End: 100}
				p := b.Bytes()
				p[0], p[3], p[8], p[9] = 0x45, 40, 64, 253
				if err := seal(s, &b, seq); err != nil {
					t.Fatal(err)
				}
				iv := binary.BigEndian.Uint64(b.Bytes()[20+HeaderLen:])
				if i == 0 {
					first = iv
				}
				if iv != first+uint64(i) || seen[iv] {
					t.Errorf("%v: packet %d with number %d has IV %#x, the first had %#x; seen before: %v", enc, i, seq, iv, first, seen[iv])
				}
				seen[iv] = true
			}
		}
	}
}

// TestNextIVConcurrent lists the IV while packets are sealed, for the race detector.
func TestNextIVConcurrent(t *testing.T) {
	s, _ := pair(t, configs()["AES128_HMAC_SHA1"])
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			if n := len(s.NextIV()); n != 16 {
				t.Errorf("NextIV has %d bytes, want 16", n)
			}
		}
	}()
	clear := pkttest.UDP(4, 1)
	b := pkttest.Buffer(clear)
	for i := range uint64(1000) {
		b.Put(clear)
		if err := seal(s, b, i); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}

// TestRandom opens sealed packets of any content.
func TestRandom(t *testing.T) {
	all := configs()
	var names []string
	for n := range all {
		names = append(names, n)
	}
	rapid.Check(t, func(r *rapid.T) {
		s, o := pair(t, all[rapid.SampledFrom(names).Draw(r, "config")])
		version := rapid.SampledFrom([]int{4, 6}).Draw(r, "version")
		opts := []byte(nil)
		if version == 4 {
			opts = make([]byte, 4*rapid.IntRange(0, 10).Draw(r, "options"))
		}
		clear := pkttest.IP(version, uint8(rapid.IntRange(61, 255).Draw(r, "proto")), opts,
			rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(r, "payload"))
		b := pkttest.Buffer(clear)
		if err := seal(s, b, rapid.Uint64().Draw(r, "seq")); err != nil {
			r.Fatalf("Seal = %v", err)
		}
		h := pkttest.Parse(t, b)
		if bad, err := open(o, b, &h); bad || err != nil || !bytes.Equal(b.Bytes(), clear) {
			r.Fatalf("Open = %v, %v, made\n%x, want\n%x", bad, err, b.Bytes(), clear)
		}
	})
}

func TestAllocs(t *testing.T) {
	for name, c := range configs() {
		for _, version := range []int{4, 6} {
			s, o := pair(t, c)
			clear := pkttest.UDP(version, 1000)
			b := pkttest.Buffer(clear)
			n := testing.AllocsPerRun(100, func() {
				b.Put(clear)
				if err := seal(s, b, 1); err != nil {
					t.Fatal(err)
				}
				h, _ := packet.ParseIP(b.Bytes())
				if _, _, err := ParseHeader(b, &h); err != nil {
					t.Fatal(err)
				}
				if _, err := open(o, b, &h); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%s IPv%d: Seal, Verify and Open allocate %v times a packet, want 0", name, version, n)
			}
		}
	}
}

// FuzzOpen opens arbitrary ESP packets with all transforms. Half of the packets get a
// right ICV, so that the code after authentication is tested.
func FuzzOpen(f *testing.F) {
	all := configs()
	for _, c := range []string{"3DES192", "AES128_HMAC_SHA1", "NULL0_HMAC_MD5", "AES_GCM160", "CHACHA20_POLY1305288"} {
		s, _ := pair(f, all[c])
		for _, v := range []int{4, 6} {
			b := pkttest.Buffer(pkttest.UDP(v, 30))
			if err := seal(s, b, 1); err != nil {
				f.Fatal(err)
			}
			f.Add(bytes.Clone(b.Bytes()))
		}
	}
	type sa struct {
		name string
		s    *Sealer
		o    *Opener
	}
	var sas []sa
	for name, c := range all {
		s, o := pair(f, c)
		sas = append(sas, sa{name, s, o})
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, sa := range sas {
			for _, fix := range []bool{false, true} {
				b := &packet.Buffer{B: bytes.Clone(p), End: len(p)} // without any room
				h, ok := packet.ParseIP(b.Bytes())
				if !ok {
					return
				}
				if _, _, err := ParseHeader(b, &h); err != nil {
					continue
				}
				if fix {
					setICV(sa.s, b.Bytes()[h.Len:h.Total])
				}
				if err := sa.o.Verify(b, &h, 0); err != nil {
					continue
				}
				if _, err := sa.o.Open(b, &h); err != nil {
					continue
				}
				got, ok := packet.ParseIP(b.Bytes())
				if b.Len() > len(p) || (ok && got.Total != b.Len()) {
					t.Fatalf("%s: opened %x to %x", sa.name, p, b.Bytes())
				}
			}
		}
	})
}

// complete encrypts and authenticates what follows the IP header.
func complete(s *Sealer, e []byte) {
	s.complete([]laid{{e: e}}, make([][]byte, 0, 1), make([]icv.Message, 0, 1))
}

// setICV sets the right ICV of an ESP packet; in combined modes its content is taken as
// plaintext.
func setICV(s *Sealer, e []byte) {
	n := len(e) - s.icv
	switch {
	case n < HeaderLen:
	case s.mac != nil:
		s.mac.Sums([]icv.Message{s.message(e, 0)})
	case s.aead != nil && n >= HeaderLen+s.iv:
		copy(s.nonce[saltLen:], e[HeaderLen:HeaderLen+s.iv])
		s.aead.Seal(e[HeaderLen+s.iv:HeaderLen+s.iv], s.nonce[:], e[HeaderLen+s.iv:n], e[:HeaderLen])
	}
}

var benchNames = []string{"3DES192_HMAC_MD5", "AES128_HMAC_SHA1", "AES256_HMAC_SHA2_256", "AES256_HMAC_SHA2_512",
	"NULL0_HMAC_SHA1", "AES_GCM160", "AES_GCM224", "AES_GCM288", "CHACHA20_POLY1305288"}

func BenchmarkSeal(b *testing.B) {
	all := configs()
	for _, name := range benchNames {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				s, _ := pair(b, all[name])
				clear := pkttest.UDP(4, size-28)
				buf := pkttest.Buffer(clear)
				hdr := bytes.Clone(clear[:20])
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					buf.Off, buf.End = packet.Headroom, packet.Headroom+size
					copy(buf.B[buf.Off:], hdr)
					if err := seal(s, buf, uint64(i)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	all := configs()
	for _, name := range benchNames {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				s, o := pair(b, all[name])
				buf := pkttest.Buffer(pkttest.UDP(4, size-28))
				if err := seal(s, buf, 1); err != nil {
					b.Fatal(err)
				}
				wire := bytes.Clone(buf.Bytes())
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					buf.Put(wire)
					h, _ := packet.ParseIP(buf.Bytes())
					if _, err := open(o, buf, &h); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRawAEAD measures AES-GCM with a 128-bit key alone: the limit for
// BenchmarkSeal.
func BenchmarkRawAEAD(b *testing.B) {
	s, _ := pair(b, configs()["AES_GCM160"])
	var a cipher.AEAD = s.aead
	for _, size := range []int{64, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var aad [8]byte
			p := make([]byte, size+36)[20:] // aligned as after an IP header
			b.SetBytes(int64(size))
			for b.Loop() {
				a.Seal(p[:0], s.nonce[:], p[:(size-20+2+3)&^3], aad[:])
			}
		})
	}
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

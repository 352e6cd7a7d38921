package ipcomp

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// text returns n bytes that compress well, noise n bytes that do not.
func text(n int) []byte {
	return []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. ", n/45+1)[:n])
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// TestVectors: what another program has compressed is decompressed, and Check finds a
// difference.
func TestVectors(t *testing.T) {
	for _, v := range Vectors() {
		if err := v.Check(); err != nil {
			t.Errorf("%s: %v", v.Source, err)
		}
		for name, change := range map[string]func(w *Vector){
			"payload":            func(w *Vector) { w.Clear += "x" },
			"compressed payload": func(w *Vector) { w.Compressed = w.Compressed[:len(w.Compressed)-8] + "00000000" },
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
	d := NewDecompressor()
	for _, version := range []int{4, 6} {
		c := NewCompressor()
		for n := 0; n < 9000; n += 1 + n/50 {
			clear := pkttest.IP(version, packet.ProtoUDP, nil, text(n))
			b := pkttest.Buffer(clear)
			b.Grow(5)
			done := compress(t, c, b, 0x1234)
			if want := n >= 128; done != want && (n < 90 || n > 128) {
				t.Errorf("Compress of %d bytes = %v, want %v", n, done, want)
			}
			if !done {
				c = NewCompressor()
				continue
			}
			h := pkttest.Parse(t, b)
			if h.Proto != packet.ProtoComp || h.Total != b.Len() {
				t.Fatalf("compressed header %+v, %d bytes", h, b.Len())
			}
			if version == 4 && packet.Fold(packet.Sum(b.Bytes()[:20], 0)) != 0xffff {
				t.Fatal("bad IP checksum")
			}
			next, cpi, err := ParseHeader(b, &h)
			if next != packet.ProtoUDP || cpi != 0x1234 || err != nil {
				t.Fatalf("ParseHeader = %d, %#x, %v", next, cpi, err)
			}
			// The standard library's reader returns the same.
			std, err := io.ReadAll(flate.NewReader(bytes.NewReader(b.Bytes()[h.Len+HeaderLen:])))
			if err != nil || !bytes.Equal(std, clear[h.Len:]) {
				t.Fatalf("%d bytes are not raw DEFLATE of the payload: %v", n, err)
			}
			if err := d.Decompress(b, &h, 0x1234, DefaultMax); err != nil || !bytes.Equal(b.Bytes(), clear) {
				t.Fatalf("Decompress = %v, %x, want %x", err, b.Bytes(), clear)
			}
		}
	}
}

// TestNot has packets that are never compressed.
func TestNot(t *testing.T) {
	first := pkttest.IP(4, 17, nil, text(500))
	first[6] = 0x20
	later := pkttest.IP(4, 17, nil, text(500))
	later[7] = 0xb9
	frag6 := pkttest.IP(6, packet.ProtoFragment, []byte{17, 0, 0, 1, 0, 0, 0, 1}, text(500))
	for _, tt := range []struct {
		name string
		p    []byte
	}{
		{"89 bytes", pkttest.IP(4, 17, nil, make([]byte, 89))},
		{"ESP", pkttest.IP(4, packet.ProtoESP, nil, text(500))},
		{"AH", pkttest.IP(6, packet.ProtoAH, nil, text(500))},
		{"IPComp", pkttest.IP(4, packet.ProtoComp, nil, text(500))},
		{"first fragment", first},
		{"later fragment", later},
		{"IPv6 fragment", frag6},
	} {
		c := NewCompressor()
		b := pkttest.Buffer(tt.p)
		if done := compress(t, c, b, 2); done || !bytes.Equal(b.Bytes(), tt.p) {
			t.Errorf("%s: Compress = %v, want nothing done", tt.name, done)
		}
		if c.w != nil || c.tries != 0 {
			t.Errorf("%s: was tried", tt.name)
		}
	}
	c := NewCompressor()
	if !compress(t, c, pkttest.Buffer(pkttest.IP(4, 17, nil, make([]byte, 90))), 2) {
		t.Error("90 zeros are not compressed")
	}
}

func TestLimit(t *testing.T) {
	for _, tt := range []struct{ payload, want int }{
		{90, 54}, {108, 72}, {512, 476}, {513, 477}, {1028, 960}, {1500, 1403},
	} {
		if got := limit(tt.payload); got != tt.want {
			t.Errorf("limit(%d) = %d, want %d", tt.payload, got, tt.want)
		}
	}
}

// TestAdaptive counts which packets of an incompressible stream are tried.
func TestAdaptive(t *testing.T) {
	c := NewCompressor()
	p := pkttest.IP(4, 17, nil, noise(400))
	got := ""
	for range 60 {
		before := c.skip
		if compress(t, c, pkttest.Buffer(p), 2) {
			t.Fatal("noise was compressed")
		}
		if before > 0 {
			got += "."
		} else {
			got += "T"
		}
	}
	want := "TTTTTTTT....TT........TT........TT........TT........TT......"
	if got != want {
		t.Errorf("tried\n%s, want\n%s", got, want)
	}
	// Packets that are never compressed do not count.
	c = NewCompressor()
	for range 8 {
		compress(t, c, pkttest.Buffer(p), 2)
	}
	compress(t, c, pkttest.Buffer(pkttest.UDP(4, 10)), 2)
	if c.skip != firstSkip {
		t.Errorf("a short packet counts as skipped: %d left, want %d", c.skip, firstSkip)
	}
	// After one success the state is that of the beginning.
	c.skip = 0
	if done := compress(t, c, pkttest.Buffer(pkttest.IP(4, 17, nil, text(400))), 2); !done || c.tries != 0 {
		t.Errorf("Compress of text = %v, %d tries remembered", done, c.tries)
	}
}

// comp returns an IPComp packet with the given header and the DEFLATE form of
// the payload.
func comp(t testing.TB, version int, next, flags byte, cpi uint16, payload []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, 9)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(payload)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return pkttest.IP(version, packet.ProtoComp, nil, append([]byte{next, flags, byte(cpi >> 8), byte(cpi)}, z.Bytes()...))
}

func TestDecompressErrors(t *testing.T) {
	good := comp(t, 4, 17, 0, 7, text(300))
	frag := bytes.Clone(good)
	frag[6] = 0x20
	for _, tt := range []struct {
		name string
		p    []byte
		max  int
		want error
	}{
		{"good", good, 300, nil},
		{"well-known CPI", comp(t, 6, 17, 0, 2, text(300)), 300, nil},
		{"empty", comp(t, 4, 17, 0, 7, nil), 300, nil},
		{"of another SA", comp(t, 4, 17, 0, 8, text(300)), 300, ErrCPI},
		{"flags", comp(t, 4, 17, 1, 7, text(300)), 300, nil},
		{"all flags", comp(t, 6, 17, 0xff, 7, text(300)), 300, nil},
		{"fragment", frag, 300, ErrFragment},
		{"twice", comp(t, 4, packet.ProtoComp, 0, 7, text(300)), 300, ErrNested},
		{"too long by one", good, 299, ErrTooLong},
		{"nothing allowed", good, -1, ErrTooLong},
		{"truncated data", pkttest.IP(4, packet.ProtoComp, nil, good[20:len(good)-8]), 300, ErrInflate},
		{"no data", pkttest.IP(4, packet.ProtoComp, nil, good[20:24]), 300, ErrInflate},
		{"bad block type", pkttest.IP(4, packet.ProtoComp, nil, []byte{17, 0, 0, 7, 0xff, 0xff}), 300, ErrInflate},
		{"half a header", pkttest.IP(4, packet.ProtoComp, nil, []byte{17, 0, 0}), 300, ErrShort},
	} {
		b := pkttest.Buffer(tt.p)
		h := pkttest.Parse(t, b)
		if err := NewDecompressor().Decompress(b, &h, 7, tt.max); err != tt.want {
			t.Errorf("%s: Decompress = %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestRoom decompresses in buffers of all sizes around the result's.
func TestRoom(t *testing.T) {
	d := NewDecompressor()
	p := comp(t, 4, 17, 0, 7, text(3000))
	for size := 3000; size < 3050; size++ {
		for _, off := range []int{0, 100, size - len(p)} {
			b := &packet.Buffer{B: make([]byte, size), Off: off, End: off + len(p)}
			copy(b.Bytes(), p)
			h := pkttest.Parse(t, b)
			var want error
			if size < 3020 {
				want = ErrRoom
			}
			if err := d.Decompress(b, &h, 7, DefaultMax); err != want {
				t.Fatalf("Decompress in %d bytes at %d = %v, want %v", size, off, err, want)
			}
			if want == nil && !bytes.Equal(b.Bytes(), pkttest.IP(4, 17, nil, text(3000))) {
				t.Fatalf("Decompress in %d bytes at %d made %x", size, off, b.Bytes())
			}
		}
	}
}

// TestBomb: decompressing a megabyte of zeros stops at the largest packet.
func TestBomb(t *testing.T) {
	b := &packet.Buffer{B: make([]byte, 70000)}
	p := comp(t, 4, 17, 0, 7, make([]byte, 1<<20))
	b.End = copy(b.B, p)
	h := pkttest.Parse(t, b)
	if err := NewDecompressor().Decompress(b, &h, 7, 1<<21); err != ErrTooLong {
		t.Errorf("Decompress = %v, want ErrTooLong", err)
	}
}

func TestRandom(t *testing.T) {
	c, d := NewCompressor(), NewDecompressor()
	rapid.Check(t, func(r *rapid.T) {
		alphabet := rapid.IntRange(1, 255).Draw(r, "alphabet")
		payload := rapid.SliceOfN(rapid.ByteMax(byte(alphabet)), 90, 3000).Draw(r, "payload")
		clear := pkttest.IP(rapid.SampledFrom([]int{4, 6}).Draw(r, "version"), 253, nil, payload)
		b := pkttest.Buffer(clear)
		c.skip = 0
		done := compress(t, c, b, 99)
		if !done {
			if !bytes.Equal(b.Bytes(), clear) {
				r.Fatal("Compress without success changed the packet")
			}
			return
		}
		h := pkttest.Parse(t, b)
		if b.Len() > h.Len+HeaderLen+limit(len(payload)) {
			r.Fatalf("%d bytes became %d: not worth it", len(payload), b.Len()-h.Len)
		}
		if err := d.Decompress(b, &h, 99, DefaultMax); err != nil || !bytes.Equal(b.Bytes(), clear) {
			r.Fatalf("Decompress = %v, %x, want %x", err, b.Bytes(), clear)
		}
	})
}

func TestAllocs(t *testing.T) {
	c, d := NewCompressor(), NewDecompressor()
	mixed := append(text(700), noise(500)...) // dynamic codes with long symbols
	for name, payload := range map[string][]byte{"text": text(1200), "noise": noise(1200), "mixed": mixed} {
		clear := pkttest.IP(4, 17, nil, payload)
		b := pkttest.Buffer(clear)
		n := testing.AllocsPerRun(100, func() {
			b.Put(clear)
			c.skip = 0
			if !compress(t, c, b, 2) {
				return
			}
			h, _ := packet.ParseIP(b.Bytes())
			if err := d.Decompress(b, &h, 2, DefaultMax); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: Compress and Decompress allocate %v times a packet, want 0", name, n)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add(comp(f, 4, 17, 0, 7, text(300)))
	f.Add(comp(f, 6, 6, 0, 2, noise(30)))
	f.Add(comp(f, 4, 17, 0, 7, append(text(300), noise(300)...)))
	d := NewDecompressor()
	f.Fuzz(func(t *testing.T, p []byte) {
		b := &packet.Buffer{B: make([]byte, max(len(p), 3000)), End: len(p)}
		copy(b.B, p)
		h, ok := packet.ParseIP(b.Bytes())
		if !ok {
			return
		}
		err := d.Decompress(b, &h, 7, 2000)
		if err == ErrShort || err == ErrCPI || err == ErrFragment || err == ErrNested {
			return
		}
		want, werr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(p[h.Len+HeaderLen:h.Total])), 2001))
		switch {
		case len(want) > 2000:
			if err != ErrTooLong {
				t.Fatalf("Decompress = %v, want ErrTooLong", err)
			}
		case werr != nil:
			if err != ErrInflate {
				t.Fatalf("Decompress = %v, the standard library says %v", err, werr)
			}
		case err != nil || !bytes.Equal(b.Bytes()[h.Len:], want):
			t.Fatalf("Decompress = %v, %x, want %x", err, b.Bytes(), want)
		}
	})
}

func FuzzCompress(f *testing.F) {
	f.Add(pkttest.IP(4, 17, nil, text(300)))
	f.Add(pkttest.IP(6, 0, []byte{17, 0, 1, 4, 0, 0, 0, 0}, text(200)))
	c, d := NewCompressor(), NewDecompressor()
	f.Fuzz(func(t *testing.T, p []byte) {
		b := &packet.Buffer{B: bytes.Clone(p), End: len(p)}
		c.skip = 0
		if _, ok := packet.ParseIP(p); !ok || !compress(t, c, b, 7) {
			if !bytes.Equal(b.Bytes(), p) {
				t.Fatal("changed without success")
			}
			return
		}
		h, ok := packet.ParseIP(b.Bytes())
		if !ok || h.Total != b.Len() {
			t.Fatalf("Compress made %x", b.Bytes())
		}
		was, _ := packet.ParseIP(p)
		want := bytes.Clone(p[:was.Total])
		packet.FixChecksum(want)
		if err := d.Decompress(b, &h, 7, packet.MaxSize); err != nil || !bytes.Equal(b.Bytes(), want) {
			t.Fatalf("Decompress = %v, %x, want %x", err, b.Bytes(), want)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	for _, n := range []int{128, 1400} {
		for name, payload := range map[string][]byte{"text": text(n), "noise": noise(n)} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				c := NewCompressor()
				clear := pkttest.IP(4, 17, nil, payload)
				buf := pkttest.Buffer(clear)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					buf.Put(clear)
					c.skip = 0
					compress(b, c, buf, 2)
				}
			})
		}
	}
}

func BenchmarkDecompress(b *testing.B) {
	for _, n := range []int{128, 1400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := NewDecompressor()
			p := comp(b, 4, 17, 0, 2, text(n))
			buf := pkttest.Buffer(make([]byte, 2000))
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				buf.Put(p)
				h, _ := packet.ParseIP(buf.Bytes())
				if err := d.Decompress(buf, &h, 2, DefaultMax); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// compress compresses the packet in b with c. The updated header must be the parsed
// one.
func compress(t testing.TB, c *Compressor, b *packet.Buffer, cpi uint16) bool {
	t.Helper()
	h := pkttest.Parse(t, b)
	done := c.Compress(b, &h, cpi)
	if got := pkttest.Parse(t, b); h != got {
		t.Errorf("the header is said to be %+v, and is %+v", h, got)
	}
	return done
}

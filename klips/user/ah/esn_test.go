package ah

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"testing"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

func esnPair(t *testing.T, a alg.Auth) (*Sealer, *Opener) {
	t.Helper()
	c := config(a)
	c.ESN = true
	s, err := NewSealer(c)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

// TestESN opens packets with the right number, and with no other high half.
func TestESN(t *testing.T) {
	for _, a := range algs {
		_, plain := pair(t, a)
		s, o := esnPair(t, a)
		for i, seq := range []uint64{1, 1<<32 - 1, 1 << 32, 1<<32 + 1, 7<<32 | 5, 1<<63 - 1, 1<<64 - 1} {
			clear := pkttest.UDP(4+2*(i&1), 33)
			b := pkttest.Buffer(clear)
			if err := seal(s, b, seq); err != nil {
				t.Fatalf("algorithm %d: Seal = %v", a, err)
			}
			h := pkttest.Parse(t, b)
			if h.Total != len(clear)+s.Overhead(h.Version) {
				t.Fatalf("algorithm %d: %d bytes on the wire, want %d", a, h.Total, len(clear)+s.Overhead(h.Version))
			}
			if _, low, err := ParseHeader(b, &h); low != uint32(seq) || err != nil {
				t.Fatalf("algorithm %d, %#x: ParseHeader = %#x, %v", a, seq, low, err)
			}
			for _, wrong := range []uint64{seq ^ 1<<32, seq ^ 1<<63, seq + 1<<32, seq - 1<<32} {
				if err := o.Verify(b, &h, wrong); err != ErrAuth {
					t.Fatalf("algorithm %d, %#x: Verify as %#x = %v, want ErrAuth", a, seq, wrong, err)
				}
			}
			// Even a high half of 0 is authenticated.
			if err := plain.Verify(b, &h, seq); err != ErrAuth {
				t.Fatalf("algorithm %d, %#x: Verify without ESN = %v, want ErrAuth", a, seq, err)
			}
			if err := o.Verify(b, &h, seq); err != nil {
				t.Fatalf("algorithm %d, %#x: Verify = %v", a, seq, err)
			}
			if err := o.Open(b, &h); err != nil || !bytes.Equal(b.Bytes(), clear) {
				t.Fatalf("algorithm %d, %#x: Open = %v, %x, want %x", a, seq, err, b.Bytes(), clear)
			}
		}
	}
}

// TestESNAppended computes an ICV according to RFC 4302 section 3.3.3: the high half
// comes after the payload and is not sent.
func TestESNAppended(t *testing.T) {
	s, _ := esnPair(t, alg.SHA1)
	b := pkttest.Buffer(pkttest.UDP(4, 10))
	if err := seal(s, b, 0xaabbccdd_11223344); err != nil {
		t.Fatal(err)
	}
	got := bytes.Clone(b.Bytes()[32:44])
	p := bytes.Clone(b.Bytes())
	p[1], p[6], p[7], p[8], p[10], p[11] = 0, 0, 0, 0, 0, 0 // mutable fields
	clear(p[32:44])
	m := hmac.New(sha1.New, config(alg.SHA1).Key)
	m.Write(binary.BigEndian.AppendUint32(p, 0xaabbccdd))
	if want := m.Sum(nil)[:12]; !bytes.Equal(got, want) {
		t.Errorf("ICV %x, want %x", got, want)
	}
	if n := binary.BigEndian.Uint32(b.Bytes()[28:]); n != 0x11223344 {
		t.Errorf("number %#x on the wire, want 0x11223344", n)
	}
}

func TestESNAllocs(t *testing.T) {
	for _, a := range algs {
		s, o := esnPair(t, a)
		clear := pkttest.UDP(6, 500)
		b := pkttest.Buffer(clear)
		seq := uint64(1<<32 - 50)
		if n := testing.AllocsPerRun(100, func() {
			seq++
			b.Put(clear)
			if err := seal(s, b, seq); err != nil {
				t.Fatal(err)
			}
			h, _ := packet.ParseIP(b.Bytes())
			if err := o.Verify(b, &h, seq); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("algorithm %d: %v allocations a packet, want 0", a, n)
		}
	}
}

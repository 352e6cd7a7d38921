package esp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// esnNumbers are around the borders of the low half.
var esnNumbers = []uint64{1, 1<<32 - 1, 1 << 32, 1<<32 + 1, 7<<32 | 5, 1<<63 - 1, 1<<64 - 1}

// TestESN opens packets with the right number, and with no other high half.
func TestESN(t *testing.T) {
	for name, c := range configs() {
		_, plain := pair(t, c)
		c.ESN = true
		s, o := pair(t, c)
		for i, seq := range esnNumbers {
			clear := pkttest.UDP(4+2*(i&1), 33)
			b := pkttest.Buffer(clear)
			if err := seal(s, b, seq); err != nil {
				t.Fatalf("%s: Seal = %v", name, err)
			}
			wire := bytes.Clone(b.Bytes())
			h := pkttest.Parse(t, b)
			if _, low, err := ParseHeader(b, &h); low != uint32(seq) || err != nil {
				t.Fatalf("%s, %#x: ParseHeader = %#x, %v", name, seq, low, err)
			}
			front, behind := s.Overhead(len(clear) - h.Len)
			if len(wire) != len(clear)+front+behind {
				t.Fatalf("%s: %d bytes on the wire, want %d", name, len(wire), len(clear)+front+behind)
			}
			if !o.Authenticated() {
				if bad, err := openAs(plain, b, &h, seq); bad || err != nil || !bytes.Equal(b.Bytes(), clear) {
					t.Fatalf("%s, %#x: without authentication = %v, %v", name, seq, bad, err)
				}
				continue
			}
			for _, wrong := range []uint64{seq ^ 1<<32, seq ^ 1<<63, seq + 1<<32, seq - 1<<32} {
				b.Put(wire)
				if err := o.Verify(b, &h, wrong); err != ErrAuth {
					t.Fatalf("%s, %#x: Verify as %#x = %v, want ErrAuth", name, seq, wrong, err)
				}
			}
			// Even a high half of 0 is authenticated.
			b.Put(wire)
			if err := plain.Verify(b, &h, seq); err != ErrAuth {
				t.Fatalf("%s, %#x: Verify without ESN = %v, want ErrAuth", name, seq, err)
			}
			b.Put(wire)
			if bad, err := openAs(o, b, &h, seq); bad || err != nil || !bytes.Equal(b.Bytes(), clear) {
				t.Fatalf("%s, %#x: %v, %v, %x, want %x", name, seq, bad, err, b.Bytes(), clear)
			}
		}
	}
}

// TestESNAppended computes the ICV of a packet according to RFC 4303 section 2.2.1: the
// high half is the last input of the HMAC and is not sent.
func TestESNAppended(t *testing.T) {
	c := Config{SPI: 0x1234, Transform: klips.Transform{Enc: alg.Null, Auth: alg.SHA1}, AuthKey: key(20, 9), ESN: true}
	s, _ := pair(t, c)
	payload := pkttest.Payload(10)
	b := pkttest.Buffer(pkttest.IP(4, 253, nil, payload))
	if err := seal(s, b, 0xaabbccdd_11223344); err != nil {
		t.Fatal(err)
	}
	want := append([]byte{0, 0, 0x12, 0x34, 0x11, 0x22, 0x33, 0x44}, payload...)
	want = append(want, 0, 253) // 12 bytes need no padding
	m := hmac.New(sha1.New, c.AuthKey)
	m.Write(binary.BigEndian.AppendUint32(bytes.Clone(want), 0xaabbccdd))
	want = append(want, m.Sum(nil)[:12]...)
	if got := b.Bytes()[20:]; !bytes.Equal(got, want) {
		t.Errorf("Seal made\n%x, want\n%x", got, want)
	}
}

func TestESNAllocs(t *testing.T) {
	all := configs()
	for _, name := range benchNames {
		c := all[name]
		c.ESN = true
		s, o := pair(t, c)
		clear := pkttest.UDP(4, 500)
		b := pkttest.Buffer(clear)
		seq := uint64(1<<32 - 50)
		if n := testing.AllocsPerRun(100, func() {
			seq++
			b.Put(clear)
			if err := seal(s, b, seq); err != nil {
				t.Fatal(err)
			}
			h, _ := packet.ParseIP(b.Bytes())
			if _, err := openAs(o, b, &h, seq); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a packet, want 0", name, n)
		}
	}
}

package ah

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Packets of several SAs in one queue, some of them with ESP in its own queue, are
// accepted and as they were. An IPv6 packet with a long header passes by the queue.
func TestQueue(t *testing.T) { rapid.Check(t, checkQueue) }

func checkQueue(t *rapid.T) {
	inner := esp.Config{SPI: 0x1104, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: make([]byte, 16), AuthKey: make([]byte, 20)}
	in, err := esp.NewSealer(inner)
	out, also := esp.NewOpener(inner)
	if err != nil || also != nil {
		t.Fatal(err, also)
	}
	type sa struct {
		*Sealer
		o *Opener
	}
	var sas []sa
	for range rapid.IntRange(1, 3).Draw(t, "SAs") {
		c := config(rapid.SampledFrom(algs).Draw(t, "algorithm"))
		c.ESN, c.Align8 = rapid.Bool().Draw(t, "ESN"), rapid.Bool().Draw(t, "align")
		s, err := NewSealer(c)
		o, also := NewOpener(c)
		if err != nil || also != nil {
			t.Fatal(err, also)
		}
		sas = append(sas, sa{s, o})
	}
	type sent struct {
		sa
		clear    []byte
		b        *packet.Buffer
		seq      uint64
		withESP  bool
		unqueued bool
	}
	n := rapid.IntRange(1, 12).Draw(t, "capacity")
	inners, q := esp.NewQueue(n), NewQueue(n)
	finish := func() {
		inners.Finish()
		q.Finish()
	}
	var packets []sent
	for i := range rapid.IntRange(0, 24).Draw(t, "packets") {
		payload := pkttest.Payload(rapid.IntRange(8, 200).Draw(t, "length"))
		var clear []byte
		kind := rapid.SampledFrom([]int{4, 6, 60}).Draw(t, "version, or options")
		switch kind {
		case 60: // options for the last hop: 40 bytes of the header and 32 of these
			clear = pkttest.IP(6, 60, append([]byte{17, 3, 0x3e, 28}, make([]byte, 28)...), payload)
		default:
			clear = pkttest.IP(kind, 253, nil, payload)
		}
		p := sent{sa: rapid.SampledFrom(sas).Draw(t, "SA"), clear: clear, b: pkttest.Buffer(clear), seq: 1<<40 | uint64(i),
			withESP: rapid.Bool().Draw(t, "over ESP"), unqueued: kind == 60}
		h, ok := packet.ParseIP(p.b.Bytes())
		if !ok {
			t.Fatal("not an IP packet")
		}
		if p.withESP {
			if err := in.Lay(inners, p.b, &h, p.seq); err != nil {
				t.Fatalf("Lay of ESP = %v", err)
			}
		}
		if !q.Takes(&h) {
			if p.b.Due != 0 {
				if err := p.Lay(q, p.b, &h, p.seq); !errors.Is(err, ErrDue) {
					t.Errorf("Lay of a packet that the queue does not take = %v, want ErrDue", err)
				}
			}
			finish()
		}
		if q.Takes(&h) == p.unqueued {
			t.Fatalf("an empty queue takes a header of %d bytes: %v", h.Len, !p.unqueued)
		}
		if err := p.Lay(q, p.b, &h, p.seq); err != nil {
			t.Fatalf("Lay = %v", err)
		}
		if queued := p.b.Due&packet.DueAH != 0; queued == p.unqueued {
			t.Errorf("a packet lacks %b after Lay", p.b.Due)
		} else if queued {
			if err := p.Seal(p.b, &h, p.seq); !errors.Is(err, ErrDue) {
				t.Errorf("Seal of a packet in the queue = %v, want ErrDue", err)
			}
			if err := p.Lay(q, p.b, &h, p.seq); q.Takes(&h) && !errors.Is(err, ErrDue) {
				t.Errorf("Lay of a packet in the queue = %v, want ErrDue", err)
			}
		}
		packets = append(packets, p)
	}
	finish()
	if l := q.laid[:cap(q.laid)]; len(q.laid) != 0 || slices.ContainsFunc(l, func(l laid) bool { return l.s != nil || l.b != nil || l.p != nil }) {
		t.Error("the queue keeps packets")
	}
	for i, p := range packets {
		if p.b.Due != 0 {
			t.Errorf("packet %d lacks %b after Finish", i, p.b.Due)
		}
		h, ok := packet.ParseIP(p.b.Bytes())
		if !ok {
			t.Fatalf("packet %d is not an IP packet", i)
		}
		if err := p.o.Verify(p.b, &h, p.seq); err != nil {
			t.Fatalf("packet %d: Verify = %v", i, err)
		}
		if err := p.o.Open(p.b, &h); err != nil {
			t.Fatalf("packet %d: Open = %v", i, err)
		}
		if p.withESP {
			if h, ok = packet.ParseIP(p.b.Bytes()); !ok {
				t.Fatalf("packet %d is not an IP packet", i)
			}
			if err := out.Verify(p.b, &h, p.seq); err != nil {
				t.Fatalf("packet %d: Verify of ESP = %v", i, err)
			}
			if _, err := out.Open(p.b, &h); err != nil {
				t.Fatalf("packet %d: Open of ESP = %v", i, err)
			}
		}
		if !bytes.Equal(p.b.Bytes(), p.clear) {
			t.Fatalf("packet %d: %x, want %x", i, p.b.Bytes(), p.clear)
		}
	}
}

// If the queue of ESP was not finished, the packets stay marked.
func TestWrongOrder(t *testing.T) {
	in, err := esp.NewSealer(esp.Config{SPI: 0x1104, Transform: klips.Transform{Enc: alg.AES}, EncKey: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := pair(t, alg.SHA1)
	b := pkttest.Buffer(pkttest.UDP(4, 100))
	h := pkttest.Parse(t, b)
	inners, q := esp.NewQueue(1), NewQueue(1)
	if err := errors.Join(in.Lay(inners, b, &h, 1), s.Lay(q, b, &h, 1)); err != nil {
		t.Fatal(err)
	}
	q.Finish()
	inners.Finish()
	if b.Due != packet.DueAH {
		t.Errorf("the packet lacks %b, want the ICV of AH", b.Due)
	}
}

func TestQueueAllocs(t *testing.T) {
	for _, a := range algs {
		s, _ := pair(t, a)
		q := NewQueue(4)
		clear := pkttest.UDP(4, 700)
		var bufs []*packet.Buffer
		for range 4 {
			bufs = append(bufs, pkttest.Buffer(clear))
		}
		n := testing.AllocsPerRun(50, func() {
			for i, b := range bufs {
				b.Put(clear)
				h, _ := packet.ParseIP(b.Bytes())
				if err := s.Lay(q, b, &h, uint64(i)); err != nil {
					t.Fatal(err)
				}
			}
			q.Finish()
		})
		if n != 0 {
			t.Errorf("algorithm %d: %v allocations", a, n)
		}
	}
}

package esp

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Packets of several SAs in one queue, in any order and number, are opened as they were,
// and nothing of them can be read before Finish.
func TestQueue(t *testing.T) { rapid.Check(t, checkQueue) }

func checkQueue(t *rapid.T) {
	all := configs()
	names := slices.Sorted(maps.Keys(all))
	type sa struct {
		*Sealer
		o *Opener
	}
	var sas []sa
	for range rapid.IntRange(1, 3).Draw(t, "SAs") {
		c := all[rapid.SampledFrom(names).Draw(t, "transform")]
		c.ESN = rapid.Bool().Draw(t, "ESN")
		s, err := NewSealer(c)
		o, also := NewOpener(c)
		if err != nil || also != nil {
			t.Fatal(err, also)
		}
		sas = append(sas, sa{s, o})
	}
	type sent struct {
		sa
		clear []byte
		b     *packet.Buffer
		seq   uint64
	}
	q := NewQueue(rapid.IntRange(1, 12).Draw(t, "capacity"))
	var packets []sent
	for i := range rapid.IntRange(0, 24).Draw(t, "packets") {
		clear := pkttest.UDP(rapid.SampledFrom([]int{4, 6}).Draw(t, "version"), rapid.IntRange(0, 200).Draw(t, "length"))
		p := sent{rapid.SampledFrom(sas).Draw(t, "SA"), clear, pkttest.Buffer(clear), 1<<40 | uint64(i)}
		h, ok := packet.ParseIP(p.b.Bytes())
		if !ok {
			t.Fatal("not an IP packet")
		}
		if err := p.Lay(q, p.b, &h, p.seq); err != nil {
			t.Fatalf("Lay = %v", err)
		}
		if queued := p.b.Due == packet.DueESP; queued == (p.aead != nil) {
			t.Errorf("a packet lacks %b after Lay", p.b.Due)
		} else if queued {
			if err := p.Seal(p.b, &h, p.seq); !errors.Is(err, ErrDue) {
				t.Errorf("Seal of a packet in the queue = %v, want ErrDue", err)
			}
			if err := p.Lay(q, p.b, &h, p.seq); !errors.Is(err, ErrDue) {
				t.Errorf("Lay of a packet in the queue = %v, want ErrDue", err)
			}
		}
		packets = append(packets, p)
	}
	q.Finish()
	if l := q.laid[:cap(q.laid)]; len(q.laid) != 0 || slices.ContainsFunc(l, func(l laid) bool { return l.s != nil || l.b != nil || l.e != nil }) {
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
		if _, seq, err := ParseHeader(p.b, &h); err != nil || seq != uint32(p.seq) {
			t.Errorf("packet %d: number %d, %v, want %d", i, seq, err, p.seq)
		}
		if err := p.o.Verify(p.b, &h, p.seq); err != nil {
			t.Fatalf("packet %d: Verify = %v", i, err)
		}
		if bad, err := p.o.Open(p.b, &h); bad || err != nil || !bytes.Equal(p.b.Bytes(), p.clear) {
			t.Fatalf("packet %d: Open = %v, %v, %x, want %x", i, bad, err, p.b.Bytes(), p.clear)
		}
	}
}

func TestQueueAllocs(t *testing.T) {
	for name, c := range configs() {
		s, _ := pair(t, c)
		q := NewQueue(5)
		clear := pkttest.UDP(4, 700)
		var bufs []*packet.Buffer
		for range 8 {
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
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkQueue(b *testing.B) {
	const batch = 32
	for _, name := range benchNames {
		for _, size := range []int{64, 1400} {
			b.Run(name+"/"+strconv.Itoa(size), func(b *testing.B) {
				s, _ := pair(b, configs()[name])
				q := NewQueue(batch)
				clear := pkttest.UDP(4, size-28)
				var bufs []*packet.Buffer
				for range batch {
					bufs = append(bufs, pkttest.Buffer(clear))
				}
				for b.Loop() {
					for _, x := range bufs {
						x.Put(clear)
						h, _ := packet.ParseIP(x.Bytes())
						if err := s.Lay(q, x, &h, 1); err != nil {
							b.Fatal(err)
						}
					}
					q.Finish()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/packet")
			})
		}
	}
}

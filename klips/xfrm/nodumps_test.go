package xfrm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// tunnel returns the changes that make a tunnel with an eroute, and the reverse tunnel.
func tunnel(n int, gcm bool) []klips.Change {
	spi := klips.SPI(0x1000 + n)
	var l []klips.Change
	for _, a := range [...]struct{ src, dst netip.Addr }{{here, there}, {there, here}} {
		esp := &klips.SASpec{ID: klips.SAID{Proto: klips.ProtoESP, SPI: spi, Dst: a.dst}, Src: a.src}
		if gcm {
			esp.Enc, esp.EncKey = alg.AESGCM, fmt.Appendf(make([]byte, 0, 20), "%018d%s", n, a.dst.AsSlice()[3:])[:20]
			esp.EncKey[19] = a.dst.As4()[3]
		} else {
			esp.Enc, esp.EncKey, esp.Auth, esp.AuthKey = alg.AES, make([]byte, 16), alg.SHA256, make([]byte, 32)
		}
		tun := klips.SAID{Proto: klips.ProtoTun, SPI: spi, Dst: a.dst}
		l = append(l, klips.AddSA{SASpec: &klips.SASpec{ID: tun, Src: a.src}}, klips.AddSA{SASpec: esp},
			klips.Group{IDs: []klips.SAID{tun, esp.ID}})
	}
	return append(l, klips.SetEroute{Eroute: klips.Eroute{
		Selector: klips.Selector{Src: any4, Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)},
		ID:       klips.SAID{Proto: klips.ProtoTun, SPI: spi, Dst: there},
	}})
}

// undone returns the changes that remove a tunnel, in several ways.
func undone(n int) []klips.Change {
	spi := klips.SPI(0x1000 + n)
	sel := tunnel(n, false)[6].(klips.SetEroute)
	drop := sel
	drop.ID, drop.Replace = klips.Magic(klips.SPIDrop), true
	return []klips.Change{
		drop,
		klips.DeleteEroute{Selector: sel.Selector},
		klips.Ungroup{ID: klips.SAID{Proto: klips.ProtoESP, SPI: spi, Dst: there}},
		klips.DeleteSA{ID: klips.SAID{Proto: klips.ProtoESP, SPI: spi, Dst: there}},
		klips.DeleteSA{ID: klips.SAID{Proto: klips.ProtoTun, SPI: spi, Dst: there}},
		klips.DeleteSA{ID: klips.SAID{Proto: klips.ProtoESP, SPI: spi, Dst: here}},
	}
}

// filled returns a kernel with tunnels.
func filled(tb testing.TB, n int, gcm bool) *memory {
	m := newMemory()
	var l []klips.Change
	for i := range n {
		l = append(l, tunnel(i, gcm)...)
	}
	if _, err := m.stack(math.MaxInt32).carry(context.Background(), l...); err != nil {
		tb.Fatal(err)
	}
	return m
}

// A single change reads no object but those that it is about, however many there are,
// and so does a command that shows one group.
func TestNoDumps(t *testing.T) {
	ctx := t.Context()
	for _, gcm := range []bool{false, true} {
		most := map[int]int{}
		for _, n := range []int{100, 1000} {
			m := filled(t, n, gcm)
			s := m.stack(few)
			m.dumps = 0
			for _, c := range append(tunnel(n, gcm), undone(n)...) {
				m.lookups = 0
				if _, err := s.carry(ctx, c); err != nil {
					t.Fatalf("%v: %v", c, err)
				}
				if m.dumps != 0 {
					t.Fatalf("%v reads all objects (AES-GCM %v)", c, gcm)
				}
				most[n] = max(most[n], m.lookups)
			}
			m.lookups = 0
			if l, err := s.ReadGroup(ctx, klips.SAID{Proto: klips.ProtoESP, SPI: 0x1000, Dst: there}); err != nil || len(l) != 2 || m.dumps != 0 {
				t.Errorf("group %v, %v, %d dumps", l, err, m.dumps)
			}
			most[n] = max(most[n], m.lookups)
		}
		if most[100] != most[1000] || most[1000] > 40 {
			t.Errorf("AES-GCM %v: at most %d look-ups among 100 tunnels, %d among 1000", gcm, most[100], most[1000])
		}
	}
}

// BenchmarkChange makes and removes an SA and an eroute among others.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{5, 25000} { // 20 and 100,000 SAs, half of them with states
		b.Run(fmt.Sprint(4*n, " SAs"), func(b *testing.B) {
			m := filled(b, n, true)
			s := m.stack(few)
			changes := append(tunnel(n, true), undone(n)...)
			for b.Loop() {
				for _, c := range changes {
					if _, err := s.carry(context.Background(), c); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(changes)), "us/change")
		})
	}
}

// A change that the kernel refuses leaves all as it was, and the next change reads few
// objects again. After an interrupted change, the next one reads all.
func TestNearRefused(t *testing.T) {
	ctx := t.Context()
	m := filled(t, 100, true)
	s := m.stack(few)
	changes := tunnel(100, true)
	if _, err := s.carry(ctx, changes[:6]...); err != nil {
		t.Fatal(err)
	}
	before := m.loosened()
	m.fail = func(c nlxfrm.Change) error {
		if c.Policy != nil && c.Add && c.Policy.IfID == 1 {
			return syscall.ENOMEM
		}
		return nil
	}
	m.dumps = 0
	if n, err := s.carry(ctx, changes[6]); n != 0 || !errors.Is(err, syscall.ENOMEM) {
		t.Fatalf("%d, %v", n, err)
	}
	if d := cmp.Diff(before, m.loosened()); d != "" || m.dumps != 0 {
		t.Errorf("after the refusal (-before +after), %d dumps:\n%s", m.dumps, d)
	}
	m.fail = func(c nlxfrm.Change) error { // the process ends after its first change
		if p := c.Policy; p != nil && p.IfID == parkCensus && p.Limits.HardPackets&changing == 0 {
			return syscall.EINTR
		}
		return nil
	}
	if n, err := s.carry(ctx, changes[6]); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	m.fail = nil
	for want := range 2 {
		m.dumps = 0
		if _, err := s.carry(ctx, undone(100)[want]); err != nil || (m.dumps != 0) != (want == 0) {
			t.Errorf("change %d after an interruption: %d dumps, %v", want+1, m.dumps, err)
		}
	}
}

// While marks are kept, all objects are read from time to time.
func TestMarksDue(t *testing.T) {
	n := neighbourhood{census: census{seen: seen{at: 1e9}}}
	for at, want := range map[int64]error{1e9: nil, 1e9 + 600: nil, 1e9 + 601: errFar, 1e9 - 1: errFar} {
		if err := n.marksDue(time.Unix(at, 0)); !errors.Is(err, want) {
			t.Errorf("at %d: %v", at, err)
		}
	}
	before := uint32(time.Now().Unix())
	m := filled(t, 100, false)
	c, ok := readCensus(m.policies[censusKey()])
	if now := uint32(time.Now().Unix()); !ok || c.at < before || c.at > now {
		t.Errorf("census %+v, %v, made from %d to %d", c, ok, before, now)
	}
}

var _ kernel = (*nlxfrm.Conn)(nil)

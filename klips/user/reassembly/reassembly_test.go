package reassembly

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips/user/packet"
)

var (
	a4, b4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	a6, b6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

// datagram4 is a complete UDP datagram without DF. datagram6 is one with a destination
// options header, which comes before a Fragment header.
func datagram4(n int) []byte {
	p := make([]byte, 20+n)
	copy(p, []byte{0x45, 0x02, 0, 0, 0x12, 0x34, 0, 0, 64, packet.ProtoUDP})
	copy(p[12:], a4.AsSlice())
	copy(p[16:], b4.AsSlice())
	fill(p[20:])
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return p
}

func datagram6(n int) []byte {
	p := make([]byte, 48+n)
	p[0], p[1], p[6], p[7] = 0x60, 0x20, packet.ProtoDstOpts, 64
	copy(p[8:], a6.AsSlice())
	copy(p[24:], b6.AsSlice())
	copy(p[40:], []byte{packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0})
	fill(p[48:])
	packet.SetTotal(p, len(p))
	return p
}

func fill(p []byte) {
	for i := range p {
		p[i] = byte(i>>3*7 + i)
	}
}

// piece returns the bytes from to to of a datagram's payload, as a fragment.
func piece(whole []byte, from, to int) []byte {
	if whole[0]>>4 == 4 {
		p := append(bytes.Clone(whole[:20]), whole[20+from:20+to]...)
		w := uint16(from / 8)
		if 20+to < len(whole) {
			w |= 0x2000
		}
		binary.BigEndian.PutUint16(p[6:], w)
		packet.SetTotal(p, len(p))
		packet.FixChecksum(p)
		return p
	}
	p := bytes.Clone(whole[:48])
	p[40] = packet.ProtoFragment
	p = append(p, packet.ProtoUDP, 0, byte(from>>8), byte(from), 0, 0, 0x12, 0x34)
	if 48+to < len(whole) {
		p[51] |= 1
	}
	p = append(p, whole[48+from:48+to]...)
	packet.SetTotal(p, len(p))
	return p
}

// at returns a copy with one byte changed.
func at(p []byte, i int, v byte) []byte {
	q := bytes.Clone(p)
	q[i] = v
	return q
}

// A bench adds fragments to a table.
type bench struct {
	t    *testing.T
	tab  *Table
	now  int64
	lost int
	buf  packet.Buffer
}

func newBench(t *testing.T, max int) *bench {
	b := &bench{t: t, buf: packet.Buffer{B: make([]byte, packet.Headroom+0xffff+packet.Tailroom)}}
	b.tab = New(max, func(n int) { b.lost += n })
	return b
}

func (b *bench) add(p []byte) Result {
	b.t.Helper()
	b.buf.Put(p)
	h, ok := packet.ParseIP(b.buf.Bytes())
	if !ok || !h.Frag {
		b.t.Fatalf("%x is no fragment", p)
	}
	return b.tab.Add(&b.buf, &h, b.now)
}

// want adds fragments; the last one must have the wanted result, the others must wait.
func (b *bench) want(r Result, pieces ...[]byte) {
	b.t.Helper()
	for i, p := range pieces {
		want := Waiting
		if i == len(pieces)-1 {
			want = r
		}
		if got := b.add(p); got != want {
			b.t.Errorf("fragment %d: %d, want %d", i, got, want)
		}
	}
}

func datagrams(n int) map[string][]byte {
	return map[string][]byte{"IPv4": datagram4(n), "IPv6": datagram6(n)}
}

func TestOrders(t *testing.T) {
	for name, whole := range datagrams(3000) {
		f := [][]byte{piece(whole, 0, 1480), piece(whole, 1480, 2960), piece(whole, 2960, 3000)}
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			b := newBench(t, 1<<20)
			b.want(Whole, f[order[0]], f[order[1]], f[order[2]])
			if !bytes.Equal(b.buf.Bytes(), whole) {
				t.Errorf("%s, order %v: %x, want %x", name, order, b.buf.Bytes(), whole)
			}
			if !b.tab.Empty() || b.tab.used != 0 || b.lost != 0 {
				t.Errorf("%s, order %v: %d fragments and %d bytes are left, %d are lost", name, order, b.tab.Len(), b.tab.used, b.lost)
			}
		}
	}
}

// Fragments that contradict each other end the datagram and its later fragments; a
// repeated fragment does not.
func TestRefused(t *testing.T) {
	for name, whole := range datagrams(3000) {
		head := len(whole) - 3000 // offset of the payload in a fragment
		if whole[0]>>4 == 6 {
			head += 8
		}
		first, second, third := piece(whole, 0, 1480), piece(whole, 1480, 2960), piece(whole, 2960, 3000)
		for _, c := range []struct {
			what string
			want Result
			p    []byte
		}{
			{"the same again", Duplicate, second},
			{"other bytes in its place", Bad, at(second, head+7, 0xee)},
			{"a part of it", Bad, piece(whole, 1480, 1488)},
			{"more than it", Bad, piece(whole, 1480, 2968)},
			{"one that overlaps its end", Bad, piece(whole, 2952, 2976)},
			{"one that overlaps its beginning", Bad, piece(whole, 1472, 1488)},
			{"a last one that ends before it", Bad, piece(whole[:len(whole)-100], 2888, 2900)},
			{"one within it that is the last", Bad, piece(whole[:head-headFrag(whole)+2960], 1480, 2960)},
		} {
			b := newBench(t, 1<<20)
			b.want(c.want, second, c.p)
			rest := []Result{Waiting, Whole}
			if c.want == Bad {
				rest = []Result{Bad, Bad}
				if b.lost != 1 {
					t.Errorf("%s, %s: %d fragments are lost, want the one before", name, c.what, b.lost)
				}
			}
			for i, p := range [][]byte{first, third} {
				if got := b.add(p); got != rest[i] {
					t.Errorf("%s, %s: then %d, want %d", name, c.what, got, rest[i])
				}
			}
		}
		b := newBench(t, 1<<20)
		b.want(Bad, third, piece(append(bytes.Clone(whole), whole[head:]...), 3000, 3008)) // after the last
		b.want(Bad, piece(whole, 0, 1484))                                                 // not a multiple of 8 bytes
		b.want(Bad, piece(whole, 1480, 1480))                                              // empty
	}
	// A congestion mark together with a fragment of a sender without ECN.
	whole := datagram4(16)
	b := newBench(t, 1<<20)
	b.want(Bad, at(piece(whole, 0, 8), 1, notECT), at(piece(whole, 8, 16), 1, ce))
	b.want(Whole, at(piece(whole, 0, 8), 1, ect0), at(piece(whole, 8, 16), 1, ce))
	if got := b.buf.Bytes()[1]; got != ce {
		t.Errorf("marked %d, want %d", got, ce)
	}
}

func headFrag(whole []byte) int {
	if whole[0]>>4 == 6 {
		return 8
	}
	return 0
}

// No datagram exceeds the maximum length.
func TestTooLong(t *testing.T) {
	for name, whole := range map[string][]byte{"IPv4": datagram4(65515), "IPv6": datagram6(65487)} {
		b := newBench(t, 1<<20)
		n := len(whole) - map[string]int{"IPv4": 20, "IPv6": 48}[name]
		cut := n / 2 &^ 7
		b.want(Whole, piece(whole, cut, n), piece(whole, 0, cut))
		if !bytes.Equal(b.buf.Bytes(), whole) {
			t.Errorf("%s: the longest datagram comes out otherwise", name)
		}
		long := append(bytes.Clone(whole), make([]byte, 48)...)
		b.want(Bad, piece(long, 0, cut), piece(long, cut, n+16))
	}
}

func TestExpire(t *testing.T) {
	b := newBench(t, 1<<20)
	whole, other := datagram4(3000), datagram6(3000)
	b.now = 5
	b.want(Waiting, piece(whole, 0, 1480))
	b.now = 7
	b.want(Waiting, piece(other, 0, 1480))
	for p, want := range map[string]bool{string(piece(whole, 1480, 2960)): true, string(piece(other, 1480, 2960)): true, string(at(piece(whole, 1480, 2960), 5, 1)): false} {
		if h, _ := packet.ParseIP([]byte(p)); b.tab.Has([]byte(p), &h) != want {
			t.Errorf("Has(%x) = %v", p, !want)
		}
	}
	b.want(Waiting, piece(other, 1480, 2960))
	if next := b.tab.Expire(int64(Age)); next != 5+int64(Age) || b.lost != 0 {
		t.Errorf("next %d, %d lost", next, b.lost)
	}
	if next := b.tab.Expire(5 + int64(Age)); next != 7+int64(Age) || b.lost != 1 || b.tab.Len() != 2 {
		t.Errorf("next %d, %d lost, %d left", next, b.lost, b.tab.Len())
	}
	b.now = 5 + int64(Age)
	b.want(Waiting, piece(whole, 1480, 3000)) // the first fragment has been removed
	b.tab.Clear()
	if b.lost != 4 || !b.tab.Empty() || b.tab.Expire(1<<62) != 0 {
		t.Errorf("%d lost, %d left", b.lost, b.tab.Len())
	}
}

// Memory is bounded: the oldest datagrams are dropped, and the current one is
// completed.
func TestBounded(t *testing.T) {
	const max = 100 << 10
	b := newBench(t, max)
	whole := datagram4(40000)
	for id := range uint16(300) {
		binary.BigEndian.PutUint16(whole[4:], id)
		b.want(Waiting, piece(whole, 0, 1480))
		b.want(Waiting, piece(whole, 30000, 31480))
		if b.tab.used > max {
			t.Fatalf("%d bytes are used, at most %d may", b.tab.used, max)
		}
	}
	if b.lost+b.tab.Len() != 600 || b.lost == 0 {
		t.Errorf("%d lost and %d left, of 600", b.lost, b.tab.Len())
	}
	b.want(Waiting, piece(whole, 1480, 30000))
	b.want(Whole, piece(whole, 31480, 40000))
	if !bytes.Equal(b.buf.Bytes()[20:], whole[20:]) {
		t.Error("the newest is not whole")
	}
	small := newBench(t, 1000)
	small.want(Bad, piece(whole, 0, 1480)) // more than the table's limit
	if !small.tab.Empty() || small.tab.used != 0 || small.lost != 0 {
		t.Errorf("%d bytes are used, %d fragments lost", small.tab.used, small.lost)
	}
	for i := range maxFragments + 1 {
		want := Waiting
		if i == maxFragments {
			want = Bad
		}
		small = b
		if got := b.add(piece(whole, 16*i, 16*i+8)); got != want {
			t.Fatalf("fragment %d: %d, want %d", i, got, want)
		}
	}
}

// For all sizes and orders, the result is the original datagram.
func TestRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t, 1<<20)
	for range 300 {
		for name, whole := range datagrams(16 + r.IntN(20000)) {
			n := len(whole) - map[string]int{"IPv4": 20, "IPv6": 48}[name]
			var all [][]byte
			for from := 0; from < n; {
				to := min(from+8*(1+r.IntN(500)), n)
				if from == 0 && to == n {
					to = 8
				}
				all = append(all, piece(whole, from, to))
				if r.IntN(4) == 0 {
					all = append(all, all[r.IntN(len(all))])
				}
				from = to
			}
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			got := Waiting
			for _, p := range all {
				if got = b.add(p); got == Whole {
					break
				}
			}
			if got != Whole || !bytes.Equal(b.buf.Bytes(), whole) {
				t.Fatalf("%s, %d bytes in %d fragments: %d", name, n, len(all), got)
			}
			b.tab.Clear()
		}
	}
}

// FuzzAdd: fragments of any content give either a complete packet or none.
func FuzzAdd(f *testing.F) {
	for _, whole := range datagrams(100) {
		f.Add(piece(whole, 0, 40), piece(whole, 40, 80), piece(whole, 80, 100))
	}
	f.Fuzz(func(t *testing.T, p1, p2, p3 []byte) {
		b := newBench(t, 1<<16)
		for _, p := range [][]byte{p1, p2, p3} {
			b.buf.Put(p)
			h, ok := packet.ParseIP(b.buf.Bytes())
			if !ok || !h.Frag {
				continue
			}
			if b.tab.Add(&b.buf, &h, 0) != Whole {
				continue
			}
			w, ok := packet.ParseIP(b.buf.Bytes())
			if !ok || w.Total != b.buf.Len() || w.Version == 4 && w.Frag {
				t.Errorf("whole: %x", b.buf.Bytes())
			}
		}
		if b.tab.used > 1<<16 {
			t.Errorf("%d bytes are used", b.tab.used)
		}
	})
}

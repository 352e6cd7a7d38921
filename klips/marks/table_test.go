package marks

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// A table has the entries that a map has after the same changes, in whatever order keys
// are asked for.
func TestTable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	key := func() (k Key) { // with few different beginnings, so that slots are taken
		binary.BigEndian.PutUint64(k[:], rnd.Uint64N(8))
		binary.BigEndian.PutUint64(k[8:], 1+rnd.Uint64N(40))
		return k
	}
	for range 200 {
		want := map[Key]entry{}
		b := header([32]byte{1})
		for range rnd.IntN(300) {
			k, e := key(), entry{Mark: Mark{rnd.Uint64(), rnd.Uint64()}, used: int64(rnd.Uint32())}
			b = append(b, record(k, &e)...)
			e.synced = e.Sent
			want[k] = e
		}
		c, ok := parse(b)
		if !ok {
			t.Fatal("the file is refused")
		}
		tb := &c.marks
		for range rnd.IntN(100) {
			k := key()
			e, known := want[k]
			got := tb.get(k)
			switch {
			case (got != nil) != known || known && *got != e:
				t.Fatalf("key %x: %v, want %v, %v", k, got, e, known)
			case known:
				got.Sent++
				want[k] = *got
			default:
				tb.add(k, &entry{used: 7})
				want[k] = entry{used: 7}
			}
			if tb.len() != len(want) {
				t.Fatalf("%d entries, want %d", tb.len(), len(want))
			}
			if rnd.IntN(50) == 0 {
				tb.all()
				tb.remove(k)
				delete(want, k)
			}
		}
		got := map[Key]entry{}
		for k, e := range tb.all() {
			got[k] = *e
		}
		if !maps.Equal(got, want) || tb.len() != len(want) {
			t.Fatalf("entries %v, want %v", got, want)
		}
	}
}

// To read a file and use a few of its marks decodes no others.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{10, 50000} {
		b.Run(fmt.Sprint(n, " keys"), func(b *testing.B) {
			dir := b.TempDir()
			open := func() *File {
				f, err := Open(b.Context(), dir, noon, nil)
				if err != nil {
					b.Fatal(err)
				}
				return f
			}
			key := func(i int) Key {
				h := sha256.Sum256(fmt.Append(nil, i))
				return Key(h[:])
			}
			f := open()
			for i := range n {
				f.Set(key(i), Mark{Sent: 1 << 24})
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				f := open()
				f.Set(key(i%n), Mark{Sent: 1<<24 + uint64(i)})
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

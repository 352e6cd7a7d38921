package sadb

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

var sizes = []int{10, 10_000, 1_000_000}

func benchID(i int) klips.SAID {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 0x0a000000+uint32(i))
	return klips.SAID{Dst: netip.AddrFrom4(a), SPI: 0x1000 + klips.SPI(i), Proto: klips.ProtoESP}
}

func fill(b *testing.B, n int) *DB {
	db := New()
	s := spec(benchID(0))
	for i := range n {
		s.ID = benchID(i)
		if _, err := db.Add(s, klips.Outbound, sec, nil); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := fill(b, n)
			ids := make([]klips.SAID, 1<<16)
			for i := range ids {
				ids[i] = benchID(rand.IntN(n))
			}
			runtime.GC()
			b.ResetTimer()
			for i := range b.N {
				if db.Lookup(ids[i&(len(ids)-1)]) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkAdd measures adding one SA with AES and HMAC-SHA-1 keys, and the memory that
// it takes.
func BenchmarkAdd(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b.ResetTimer()
	db := fill(b, b.N)
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "B/SA")
	runtime.KeepAlive(db)
}

func BenchmarkAll(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := fill(b, n)
			b.ResetTimer()
			for range b.N {
				db.All()
			}
		})
	}
}

func BenchmarkGroup(b *testing.B) {
	db := fill(b, 4)
	ids := []klips.SAID{benchID(0), benchID(1), benchID(2), benchID(3)}
	for range b.N {
		if err := db.Group(ids); err != nil {
			b.Fatal(err)
		}
		if err := db.Ungroup(ids[2]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	db := fill(b, 1)
	sa := db.Lookup(benchID(0))
	for i := range b.N {
		sa.Count(1000, int64(i))
	}
}

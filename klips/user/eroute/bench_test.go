package eroute

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// addr4 makes an IPv4 address of a number.
func addr4(n uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

// workloads are kinds of tables as they occur in practice: each returns the i-th eroute
// of a table and a packet for it.
var workloads = []struct {
	name string
	make func(i uint32) (klips.Selector, Packet)
}{
	// One gateway with many peers: all from one network, to /24s.
	{"hub", func(i uint32) (klips.Selector, Packet) {
		dst := 0x0b000000 + i<<8
		return klips.Selector{
				Src: netip.MustParsePrefix("10.0.0.0/16"),
				Dst: netip.PrefixFrom(addr4(dst), 24),
			}, Packet{
				Src: addr4(0x0a000001), Dst: addr4(dst + 7), Proto: 17, SrcPort: 1, DstPort: 2,
			}
	}},
	// Host pairs, all different.
	{"hosts", func(i uint32) (klips.Selector, Packet) {
		src, dst := 0x0a000000+i*2654435761, 0x80000000+i*40503
		return klips.Selector{
				Src: netip.PrefixFrom(addr4(src), 32),
				Dst: netip.PrefixFrom(addr4(dst), 32),
			}, Packet{
				Src: addr4(src), Dst: addr4(dst), Proto: 6, SrcPort: 1, DstPort: 2,
			}
	}},
	// Nested: under 0/0 -> 0/0 there are networks with exceptions for hosts,
	// for destinations and for ports.
	{"nested", func(i uint32) (klips.Selector, Packet) {
		net := 0x0a000000 + i/8<<8
		s := klips.Selector{Src: netip.PrefixFrom(addr4(net), 24), Dst: netip.MustParsePrefix("192.168.0.0/16")}
		switch i % 8 {
		case 1:
			s.Src = netip.PrefixFrom(addr4(net+5), 32)
		case 2:
			s.Proto = 6
		case 3:
			s.Proto, s.DstPort = 6, 80
		case 4:
			s.Dst = netip.MustParsePrefix("192.168.1.0/24")
		case 5:
			s.Dst = netip.MustParsePrefix("192.168.1.1/32")
		case 6:
			s.Dst = netip.MustParsePrefix("0.0.0.0/0")
		case 7:
			s.Src = netip.PrefixFrom(addr4(net+128), 25)
		}
		if i == 0 {
			s.Src, s.Dst = netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("0.0.0.0/0")
		}
		return s, Packet{Src: addr4(net + 5), Dst: addr4(0xc0a80101), Proto: 6, SrcPort: 1, DstPort: 80}
	}},
	// IPv6 networks, all different.
	{"six", func(i uint32) (klips.Selector, Packet) {
		a := [16]byte{0xfd, 0x00}
		binary.BigEndian.PutUint32(a[3:], i)
		src := netip.AddrFrom16(a)
		a[0], a[15] = 0xfc, 1
		dst := netip.AddrFrom16(a)
		return klips.Selector{Src: netip.PrefixFrom(src, 56), Dst: netip.PrefixFrom(dst, 64).Masked()},
			Packet{Src: src, Dst: dst, Proto: 6, SrcPort: 1, DstPort: 2}
	}},
}

var sizes = []uint32{10, 10_000, 1_000_000}

func fill(tb testing.TB, n uint32, sel func(uint32) (klips.Selector, Packet)) *Table {
	t := New()
	for i := range n {
		s, _ := sel(i)
		if err := t.Add(klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIDrop)}); err != nil {
			tb.Fatalf("Add(%v): %v", s, err)
		}
	}
	return t
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkLookup(b *testing.B) {
	for _, load := range workloads {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", load.name, n), func(b *testing.B) {
				t := fill(b, n, load.make)
				packets := make([]Packet, 1<<16)
				for i := range packets {
					_, packets[i] = load.make(rand.Uint32N(n))
				}
				runtime.GC()
				b.ResetTimer()
				for i := range b.N {
					if t.Lookup(&packets[i&(len(packets)-1)]) == nil {
						b.Fatal("nothing found")
					}
				}
			})
		}
	}
}

// BenchmarkReplace measures one change in a table of a given size, and the memory that
// an eroute takes.
func BenchmarkReplace(b *testing.B) {
	for _, load := range workloads {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", load.name, n), func(b *testing.B) {
				before := heap()
				t := fill(b, n, load.make)
				size := heap() - before
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					s, _ := load.make(rand.Uint32N(n))
					if _, err := t.Replace(klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIPass)}); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(size)/float64(n), "B/eroute")
				runtime.KeepAlive(t)
			})
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, load := range workloads {
		b.Run(load.name, func(b *testing.B) {
			t := New()
			for i := range uint32(b.N) {
				s, _ := load.make(i)
				if err := t.Add(klips.Eroute{Selector: s, ID: klips.Magic(klips.SPIDrop)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeep measures the slowest lookup that a table can cause: every source length
// has every destination length, all sources contain the packet, and no destination
// does.
func BenchmarkDeep(b *testing.B) {
	t := New()
	for src := range 33 {
		for dst := range 33 {
			s := klips.Selector{
				Src: netip.PrefixFrom(addr4(0xffffffff), src).Masked(), Dst: netip.PrefixFrom(addr4(0xffffffff), dst).Masked(),
				Proto: 6,
			}
			if err := t.Add(klips.Eroute{Selector: s}); err != nil {
				b.Fatal(err)
			}
		}
	}
	p := Packet{Src: addr4(0xffffffff), Dst: addr4(0), Proto: 6}
	for _, proto := range []uint8{6, 17} {
		p.Proto = proto
		b.Run(fmt.Sprint("proto", proto), func(b *testing.B) {
			for range b.N {
				t.Lookup(&p)
			}
		})
	}
}

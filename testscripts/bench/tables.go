package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// tables measures the tables without packets on the wire.
func tables() error {
	for _, n := range []int{10, 10_000, 1_000_000} {
		t, packets := fill(n)
		few := packets[:min(len(packets), 8)]
		for _, l := range []struct {
			flows   string
			lookup  func(*eroute.Packet) *eroute.Entry
			packets []eroute.Packet
		}{
			{"", t.Lookup, packets},
			{" by a worker, many flows", t.NewCache().Lookup, packets},
			{" by a worker, 8 flows", t.NewCache().Lookup, few},
		} {
			const rounds = 2_000_000
			begin, hits := time.Now(), 0
			for i := range rounds {
				if l.lookup(&l.packets[i%len(l.packets)]) != nil {
					hits++
				}
			}
			d := time.Since(begin)
			if hits == 0 {
				return fmt.Errorf("no look-up among %d eroutes hit", n)
			}
			name := fmt.Sprintf("eroute look-ups among %d%s", n, l.flows)
			printRow(name, "%.1f M/s, %d ns each", rounds/d.Seconds()/1e6, d.Nanoseconds()/rounds)
			note(name, float64(d.Nanoseconds())/rounds, "ns")
		}
	}
	return sas()
}

// maxFlows is how many flows the packets belong to, if the table has so many eroutes: more
// than a processor has in its caches.
const maxFlows = 1 << 18

// fill returns a table of n eroutes to networks and hosts, some with a protocol and a
// port, and packets, most of which match an eroute.
func fill(n int) (*eroute.Table, []eroute.Packet) {
	r := rand.New(rand.NewPCG(1, 2))
	t := eroute.New()
	var packets []eroute.Packet
	for t.Len() < n {
		bits := []int{16, 24, 32}[r.IntN(3)]
		e := klips.Eroute{ID: klips.Magic(klips.SPIDrop)}
		src, dst := addr(r.Uint32()), addr(r.Uint32())
		e.Src, e.Dst = netip.PrefixFrom(src, bits).Masked(), netip.PrefixFrom(dst, bits).Masked()
		p := eroute.Packet{Src: src, Dst: dst, Proto: 6, SrcPort: 40000, DstPort: 443}
		if r.IntN(4) == 0 {
			e.Proto, e.DstPort = p.Proto, p.DstPort
		}
		if t.Add(e) == nil && len(packets) < maxFlows {
			packets = append(packets, p)
		}
	}
	return t, packets
}

func addr(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// sas measures the time to make SAs and the memory of one SA.
func sas() error {
	const n = 200_000
	db := sadb.New()
	key := make([]byte, 20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	for i := range uint32(n) {
		binary.BigEndian.PutUint32(key, i) // each SA sends with its own key
		_, err := db.Add(&klips.SASpec{
			ID:  klips.SAID{Dst: addr(0x0a000000 + i), SPI: klips.SPI(0x100 + i), Proto: klips.ProtoESP},
			Src: addr(0xc0000201), Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: key, Window: 64,
		}, klips.Outbound, 1, func(*sadb.SA) error { return nil })
		if err != nil {
			return err
		}
	}
	d := time.Since(begin)
	runtime.GC()
	runtime.ReadMemStats(&after)
	printRow("SAs made (in the engine)", "%.0f k/s", n/d.Seconds()/1e3)
	note("SAs made (in the engine)", n/d.Seconds(), "1/s")
	printRow("memory of an SA", "%d bytes", (after.HeapAlloc-before.HeapAlloc)/n)
	note("memory of an SA", float64((after.HeapAlloc-before.HeapAlloc)/n), "bytes")
	runtime.KeepAlive(db)
	return nil
}

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
)

// A walk is something that takes nanoseconds, done again and again.
type walk struct {
	name string
	step func(i int)

	chunks []time.Duration // how long each lookupChunk steps took
}

// All walks take turns, so that what else the machine does is the same for all. A chunk
// takes a millisecond or so: few chunks are interrupted.
const (
	lookupRounds = 300
	lookupChunk  = 1 << 12
)

// lookups measures look-ups in tables of few and of many eroutes. Their packets come in no
// order. What a look-up in a large table costs more is the wait for memory, so beside it
// stands a read of memory that waits for the one before.
func lookups() error {
	var walks []*walk
	hits := 0
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
			walks = append(walks, &walk{name: fmt.Sprintf("eroute look-ups among %d%s", n, l.flows), step: func(i int) {
				if l.lookup(&l.packets[i%len(l.packets)]) != nil {
					hits++
				}
			}})
		}
	}
	at, next := uint32(0), chain(1<<27)
	memory := &walk{name: "reads of 128 MB of memory, one after the other", step: func(int) { at = next[at][0] }}
	for round := range lookupRounds {
		for _, w := range append(walks, memory) {
			begin := time.Now()
			for i := range lookupChunk {
				w.step(round*lookupChunk + i)
			}
			w.chunks = append(w.chunks, time.Since(begin))
		}
	}
	if hits == 0 {
		return fmt.Errorf("no eroute look-up hit")
	}
	for _, w := range append(walks, memory) {
		ns := w.nanoseconds()
		printRow(w.name, "%.1f M/s, %.0f ns each", 1e3/ns, ns)
		note(w.name, ns, "ns")
	}
	ratio := func(name string, a, b *walk) {
		r := a.nanoseconds() / b.nanoseconds()
		printRow(name, "%.2f", r)
		note(name, r, "")
	}
	ratio("eroute look-ups among 1000000 to those among 10", walks[6], walks[0])
	ratio("eroute look-ups among 1000000 to reads of memory", walks[6], memory)
	return nil
}

// nanoseconds returns the lower quartile of the times for a step.
func (w *walk) nanoseconds() float64 {
	l := slices.Sorted(slices.Values(w.chunks))
	return float64(l[len(l)/4].Nanoseconds()) / lookupChunk
}

// chain returns lines of memory of 64 bytes, in all so many bytes. The first number of each
// is that of the next one to read; all lines are in one ring, in no order.
func chain(bytes int) [][16]uint32 {
	l := make([][16]uint32, bytes/64)
	order := rand.New(rand.NewPCG(3, 4)).Perm(len(l))
	for i, at := range order {
		l[at][0] = uint32(order[(i+1)%len(order)])
	}
	return l
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

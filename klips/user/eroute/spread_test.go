package eroute

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// Many flows are spread evenly, whatever they differ in.
func TestSpread(t *testing.T) {
	const flows = 1000
	random := rand.New(rand.NewPCG(1, 2))
	for what, flow := range map[string]func(i int) Packet{
		"source port":      func(i int) Packet { return pkt("10.1.0.1", "10.2.0.1", 6, uint16(32768+i), 443) },
		"destination port": func(i int) Packet { return pkt("10.1.0.1", "10.2.0.1", 17, 4000, uint16(5000+2*i)) },
		"both ports": func(i int) Packet {
			return pkt("10.1.0.1", "10.2.0.1", 17, uint16(random.Uint32()), uint16(random.Uint32()))
		},
		"source": func(i int) Packet {
			return Packet{Src: addr4(0x0a010000 + uint32(i)), Dst: addr4(0x0a020001), Proto: 1}
		},
		"destination": func(i int) Packet {
			return Packet{Src: addr4(0x0a010001), Dst: addr4(0x0a020000 + uint32(i)), Proto: 47}
		},
		"both alike": func(i int) Packet {
			return Packet{Src: addr4(0x0a010000 + uint32(i)), Dst: addr4(0x0a020000 + uint32(i)), Proto: 6, SrcPort: 1024, DstPort: 80}
		},
		"IPv6 source": func(i int) Packet {
			_, p := workloads[3].make(uint32(i))
			p.Dst = pkt("fd00::1", "fd01::1").Dst
			return p
		},
		"IPv6 ports": func(i int) Packet { return pkt("fd00::1", "fd01::1", 6, uint16(40000+i), 443) },
	} {
		packets := make([]Packet, flows)
		for i := range packets {
			packets[i] = flow(i)
		}
		for n := 1; n <= 1+klips.MaxAlso; n++ {
			counts := make([]int, n)
			for i := range packets {
				p := packets[i]
				at := p.Spread(n)
				if at < 0 || at >= n {
					t.Fatalf("%s: Spread(%d) = %d", what, n, at)
				}
				counts[at]++
				if again := packets[i].Spread(n); again != at {
					t.Fatalf("%s: Spread(%d) = %d and %d for one flow", what, n, at, again)
				}
			}
			// Four standard deviations of flows that are thrown by chance.
			mean := flows / float64(n)
			most := 4 * math.Sqrt(mean*(1-1/float64(n)))
			for at, c := range counts {
				if math.Abs(float64(c)-mean) > most {
					t.Errorf("%s: of %d flows %d have number %d of %d; all: %v", what, flows, c, at, n, counts)
				}
			}
		}
	}
	p := pkt("10.1.0.1", "10.2.0.1", 6, 1, 2)
	if n := testing.AllocsPerRun(100, func() { p.Spread(16) }); n != 0 {
		t.Errorf("Spread allocates %v times", n)
	}
}

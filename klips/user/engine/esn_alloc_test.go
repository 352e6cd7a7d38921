package engine

import (
	"math"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// The path of a packet allocates nothing with extended sequence numbers either, and with
// windows of any size. Here every packet has its own number, and the numbers pass 2³².
func TestNoAllocationsESN(t *testing.T) {
	for name, layers := range specs() {
		for _, window := range []uint32{64, 4096} {
			for i := range layers {
				if p := layers[i].ID.Proto; p == klips.ProtoESP || p == klips.ProtoAH {
					layers[i].Window, layers[i].ESN = window, true
				}
			}
			b := newBench(t, 500, layers...)
			for i, l := range layers {
				if l.ESN {
					id := klips.SAID{Dst: b.in.e.sas.All()[0].ID.Dst, SPI: klips.SPI(0x1000 + i), Proto: l.ID.Proto}
					b.out.e.sas.Lookup(id).Seq.Store(math.MaxUint32 - 50)
				}
			}
			b.send(1)
			b.receive(1)
			const runs = 100
			if n := testing.AllocsPerRun(runs, func() { b.send(1); b.receive(1) }); n != 0 {
				t.Errorf("%s, window %d: a packet out and in allocates %v times", name, window, n)
			}
			out, in := b.out.d.stats.read(), b.in.e.devs[0].stats.read()
			if in.RxPackets != runs+2 || in.RxErrors+in.RxDropped+out.TxErrors+out.TxDropped != 0 {
				t.Errorf("%s, window %d: sent %+v, received %+v", name, window, out, in)
			}
		}
	}
}

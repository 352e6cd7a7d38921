package engine

import (
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// deliver queues a packet for the device through which it arrives.
func (w *inWorker) deliver(d *device, c *inPacket) {
	b := c.b
	if c.transported && !d.quiet.about(d.link, &c.h) {
		d.stats.drop(drop.NotDelivered, c.last, &d.stats.rxDropped)
		w.note(drop.NotDelivered, d, b, c.last)
		return
	}
	if b.Off < linkRoom {
		d.stats.drop(drop.BadPacket, nil, &d.stats.rxErrors)
		w.note(drop.BadPacket, d, b, c.last)
		return
	}
	if c.h.Proto == packet.ProtoTCP && !c.h.Frag && w.e.knobs.mss.on() {
		w.clampIn(d, c)
	}
	if len(w.pending[d.num]) == 0 {
		w.touched = append(w.touched, d)
		w.bytes[d.num] = 0
	}
	w.bytes[d.num] += uint64(c.h.Total - c.h.Len)
	w.pending[d.num] = append(w.pending[d.num], b)
}

// flush writes the queued packets to their devices. A device that is down accepts no
// packets; they count as not delivered.
func (w *inWorker) flush() {
	for _, d := range w.touched {
		w.refused, w.to = 0, d
		d.link.Write(w.pending[d.num], w.refuse)
		all := w.refused == len(w.pending[d.num])
		w.pending[d.num] = w.pending[d.num][:0]
		for range w.refused {
			d.stats.drop(drop.NotDelivered, nil, &d.stats.rxDropped)
		}
		if !all {
			d.stats.rxBytes.Add(w.bytes[d.num])
		}
	}
	w.touched = w.touched[:0]
}

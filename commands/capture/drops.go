package capture

import (
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// drops gives packets the reasons for which the stack has dropped them. The stack reports
// the newest packet of each reason only.
type drops struct {
	seen map[string]time.Time // by reason, when the newest known packet was dropped
}

// note finds the packets that were dropped since the note before, among those that were
// captured meanwhile, oldest first. The first note only learns what was before.
func (d *drops) note(l []klips.Dropped, waiting []*item, t *tables) {
	first := d.seen == nil
	if first {
		d.seen = map[string]time.Time{}
	}
	for i := range l {
		p := &l[i]
		if !p.Time.After(d.seen[p.Reason]) {
			continue
		}
		d.seen[p.Reason] = p.Time
		if first {
			continue
		}
		if it := dropped(p, waiting, t); it != nil {
			it.reason = p.Reason
		}
	}
}

// dropped returns the packet that was dropped; nil if it is not known. It is the newest one
// with the same headers. If its protection was removed before it was dropped, these cannot be
// seen: then it is the only one of its SA.
func dropped(d *klips.Dropped, waiting []*item, t *tables) (found *item) {
	for _, it := range slices.Backward(waiting) {
		if it.out != d.Inbound && it.reason == "" && it.view.has(d) {
			return it
		}
	}
	if !d.Inbound || d.SPI != 0 || d.SA == (klips.SAID{}) {
		return nil
	}
	_, ids := t.group(d.SA)
	for _, it := range waiting {
		if it.out || it.device.clear || len(it.view.layers) == 0 || !slices.Contains(ids, it.view.layers[0].id) {
			continue
		}
		if found != nil {
			return nil
		}
		found = it
	}
	return found
}

// has reports whether a packet has the headers of a dropped one.
func (v *view) has(d *klips.Dropped) bool {
	if d.SPI != 0 {
		return slices.ContainsFunc(v.layers, func(l layer) bool {
			return l.id.SPI == d.SPI && l.number == d.Sequence && l.id.Dst == d.Dst
		})
	}
	return slices.ContainsFunc(v.headers, func(h header) bool {
		return h.src == d.Src && h.dst == d.Dst && h.proto == d.Proto && h.length == d.Length && h.srcPort == d.SrcPort && h.dstPort == d.DstPort
	})
}

package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// A finding is a reason for which packets were dropped.
type finding struct {
	reason  string // a word of package drop
	packets uint64
	last    *klips.Dropped // the newest packet; nil: not known
	sas     []dropper      // those that have dropped such packets, most packets first
	where   []string       // who counts them
	cause   string         // the likely cause
	means   string         // what the reason means, with its RFC; empty: the cause is that
	see     []string       // commands that show more
	mend    []string       // what to do
}

// A dropper is an SA that has dropped packets for one reason.
type dropper struct {
	*klips.SA
	packets uint64
}

// collect returns the findings in a snapshot: the newest packet first, then those without a
// known packet, most packets first.
func collect(t *klips.Snapshot) []finding {
	byReason := map[string]*finding{}
	get := func(reason string) *finding {
		f := byReason[reason]
		if f == nil {
			f = &finding{reason: reason}
			byReason[reason] = f
		}
		return f
	}
	add := func(who string, c drop.Counts) {
		for word, n := range c {
			f := get(word)
			f.packets += n
			f.where = append(f.where, fmt.Sprintf("%d by %s", n, who))
		}
	}
	for _, d := range t.Devices {
		add(d.Name, d.Drops)
	}
	if t.KernelDrops == nil {
		add("the stack", t.Drops)
	}
	for _, k := range t.KernelDrops {
		f := get(k.Reason)
		f.packets += k.Packets
		f.where = append(f.where, fmt.Sprintf("%d by the kernel as %s: %s", k.Packets, k.Counter, counter(k.Counter)))
	}
	for i := range t.SAs {
		for word, n := range t.SAs[i].DropCounts() {
			f := get(word)
			f.sas = append(f.sas, dropper{&t.SAs[i], n})
			f.where = append(f.where, fmt.Sprintf("%d by %v", n, t.SAs[i].ID))
		}
	}
	for i := range t.LastDrops {
		get(t.LastDrops[i].Reason).last = &t.LastDrops[i]
	}
	var l []finding
	for _, f := range byReason {
		if f.packets == 0 { // only SAs count this reason
			for _, sa := range f.sas {
				f.packets += sa.packets
			}
		}
		slices.SortStableFunc(f.sas, func(a, b dropper) int { return cmp.Compare(b.packets, a.packets) })
		slices.Sort(f.where)
		(&causes{t, f}).find()
		l = append(l, *f)
	}
	slices.SortFunc(l, compare)
	return l
}

func compare(a, b finding) int {
	switch {
	case a.last != nil && b.last != nil:
		return cmp.Or(b.last.Time.Compare(a.last.Time), cmp.Compare(a.reason, b.reason))
	case a.last != nil:
		return -1
	case b.last != nil:
		return 1
	}
	return cmp.Or(cmp.Compare(b.packets, a.packets), cmp.Compare(a.reason, b.reason))
}

// describe returns a dropped packet in words.
func describe(p *klips.Dropped) string {
	var l []string
	l = append(l, p.Time.UTC().Format("2006-01-02 15:04:05Z"))
	way := "outbound"
	if p.Inbound {
		way = "inbound"
	}
	if p.Device != "" {
		way += " on " + p.Device
	}
	l = append(l, way)
	if p.Src.IsValid() {
		text := fmt.Sprintf("%v -> %v %s", p.Src, p.Dst, netdb.ProtocolName(p.Proto))
		if p.SrcPort != 0 || p.DstPort != 0 {
			text += fmt.Sprintf(" %d to %d", p.SrcPort, p.DstPort)
		}
		l = append(l, text, fmt.Sprintf("%d bytes", p.Length))
	}
	if p.SPI != 0 {
		l = append(l, fmt.Sprintf("SPI 0x%x, number %d", uint32(p.SPI), p.Sequence))
	}
	if p.SA.SPI != 0 {
		l = append(l, p.SA.String())
	}
	return strings.Join(l, ", ")
}

// flow returns the packet as a question.
func flow(p *klips.Dropped) klips.Flow {
	return klips.Flow{Inbound: p.Inbound, Device: p.Device, Src: p.Src, Dst: p.Dst, Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort, Length: p.Length}
}

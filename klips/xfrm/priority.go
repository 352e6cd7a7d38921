package xfrm

import (
	"cmp"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// Priorities of eroutes, lowest first, and the room after the last one for new ones.
const (
	minPriority  = 1 << 21
	maxPriority  = 1 << 31
	priorityStep = 1 << 12
)

// prioritise gives priorities to eroutes that have none. The others keep theirs, unless
// there is no room between two.
//
// Of all eroutes that match a packet, KLIPS takes those that no other refines, and of
// these the one with the greatest key. An eroute that refines another and matches the
// same packet has the greater key, or an equal key and the longer mask, because the
// other has zeros where its mask does. So the order by key and mask is KLIPS' order for
// every packet. Equal ones have the kernel's order, the older first.
func (t *tables) prioritise() {
	var families [2][]*route
	for _, r := range t.routes {
		i := 0
		if r.Is6() {
			i = 1
		}
		families[i] = append(families[i], r)
	}
	for _, l := range families {
		slices.SortFunc(l, first)
		spread(l)
	}
}

// first compares eroutes: those that KLIPS prefers come first.
func first(a, b *route) int {
	return cmp.Or(
		b.Src.Addr().Compare(a.Src.Addr()),
		b.Dst.Addr().Compare(a.Dst.Addr()),
		cmp.Compare(b.Proto, a.Proto),
		cmp.Compare(b.SrcPort, a.SrcPort),
		cmp.Compare(b.DstPort, a.DstPort),
		cmp.Compare(b.Src.Bits()+b.Dst.Bits(), a.Src.Bits()+a.Dst.Bits()),
		cmp.Compare(a.age, b.age),
		klips.CompareSelectors(a.Selector, b.Selector),
	)
}

// spread gives ascending priorities to eroutes in order.
func spread(l []*route) {
	for i := 0; i < len(l); {
		if l[i].priority != 0 {
			if i > 0 && l[i].priority <= l[i-1].priority {
				respread(l)
				return
			}
			i++
			continue
		}
		end := i
		for end < len(l) && l[end].priority == 0 {
			end++
		}
		if !fill(l, i, end) {
			respread(l)
			return
		}
		i = end
	}
}

// fill gives priorities to l[i:end], between those of their neighbours.
func fill(l []*route, i, end int) bool {
	n := uint64(end - i)
	low, high := uint64(minPriority), uint64(maxPriority) // exclusive
	if i > 0 {
		low = uint64(l[i-1].priority)
	}
	if end < len(l) {
		high = uint64(l[end].priority)
	}
	if high <= low {
		return false
	}
	step := (high - low) / (n + 1)
	if step == 0 {
		return false
	}
	switch {
	case i == 0 && end == len(l): // all of them: leave room at both ends
		step = min(step, priorityStep)
		low = (low + high - step*n) / 2
	case i == 0:
		step = min(step, priorityStep)
		low = high - step*(n+1)
	case end == len(l):
		step = min(step, priorityStep)
	}
	for k := range l[i:end] {
		l[i+k].priority = uint32(low + step*uint64(k+1))
	}
	return true
}

// respread gives all eroutes new priorities, with equal room between them.
func respread(l []*route) {
	step := uint32(maxPriority-minPriority) / uint32(len(l)+1)
	for i := range l {
		l[i].priority = minPriority + step*uint32(i+1)
	}
}

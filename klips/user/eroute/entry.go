package eroute

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// An Entry is one eroute in a table. Its plain fields do not change; replacing
// an eroute makes a new Entry.
type Entry struct {
	klips.Selector
	ID  klips.SAID // the target: an SA, which need not exist, or a magic SAID
	PID int32      // of the process that made it

	Packets atomic.Uint64 // packets that selected it; counted by the caller
	LastUse atomic.Int64  // nanoseconds of the caller's clock

	// Data belongs to the caller, who also sees to its synchronization.
	Data any

	bits int    // of the mask
	age  uint64 // ascending in the order of adding
}

func newEntry(e *klips.Eroute, age uint64) *Entry {
	n := &Entry{Selector: e.Selector, ID: e.ID, PID: e.PID, age: age}
	n.Packets.Store(e.Packets)
	n.bits = e.Src.Bits() + e.Dst.Bits()
	if e.Proto != 0 {
		n.bits += 8
	}
	if e.SrcPort != 0 {
		n.bits += 16
	}
	if e.DstPort != 0 {
		n.bits += 16
	}
	return n
}

// Eroute returns the entry as listings show it.
func (e *Entry) Eroute() klips.Eroute {
	return klips.Eroute{Selector: e.Selector, ID: e.ID, Packets: e.Packets.Load(), PID: e.PID}
}

// compare orders entries by who wins where several match: the winner is the
// smaller one. Zero means that they are the same entry.
func compare(a, b *Entry) int {
	return cmp.Or(
		b.Src.Addr().Compare(a.Src.Addr()),
		b.Dst.Addr().Compare(a.Dst.Addr()),
		cmp.Compare(b.Proto, a.Proto),
		cmp.Compare(b.SrcPort, a.SrcPort),
		cmp.Compare(b.DstPort, a.DstPort),
		cmp.Compare(b.bits, a.bits),
		cmp.Compare(a.age, b.age),
	)
}

// better returns the winner of two entries, either of which may be nil.
func better(a, b *Entry) *Entry {
	if a == nil || b != nil && compare(b, a) < 0 {
		return b
	}
	return a
}

// A Packet is what of a packet counts for eroutes.
type Packet struct {
	Src, Dst netip.Addr // of one family, unmapped
	Proto    uint8
	// Ports in host byte order; 0 for all protocols but TCP and UDP, and for
	// fragments other than the first.
	SrcPort, DstPort uint16
}

// takesPorts reports whether the protocol and ports of e match the packet.
func (e *Entry) takesPorts(p *Packet) bool {
	return (e.Proto == 0 || e.Proto == p.Proto) &&
		(e.SrcPort == 0 || e.SrcPort == p.SrcPort) &&
		(e.DstPort == 0 || e.DstPort == p.DstPort)
}

// checked returns the selector without host bits, EINVAL if it is none.
func checked(s klips.Selector) (klips.Selector, error) {
	src, dst := s.Src.Addr(), s.Dst.Addr()
	if !s.Src.IsValid() || !s.Dst.IsValid() || src.Is4() != dst.Is4() || src.Is4In6() || dst.Is4In6() {
		return s, syscall.EINVAL
	}
	s.Src, s.Dst = s.Src.Masked(), s.Dst.Masked()
	return s, nil
}

// A list is a few entries in the order of compare. It is immutable.
type list []*Entry

// find returns the entry with exactly that selector, nil if there is none.
func (l list) find(s klips.Selector) *Entry {
	for _, e := range l {
		if e.Selector == s {
			return e
		}
	}
	return nil
}

// with returns a list with e in place of old; either may be nil.
func (l list) with(old, e *Entry) list {
	n := make(list, 0, len(l)+1)
	for _, x := range l {
		if x != old {
			n = append(n, x)
		}
	}
	if e != nil {
		i, _ := slices.BinarySearchFunc(n, e, compare)
		n = slices.Insert(n, i, e)
	}
	return n
}

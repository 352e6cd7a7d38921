package eroute

import (
	"encoding/binary"
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/klips-go/ipsec/klips"
)

// maxList is how many entries a level holds in a list. One that has more goes
// over to a table, and stays one until it is empty.
const maxList = 8

// A bySource is all eroutes of a table: by source prefix. It is immutable, as
// are the levels below it.
type bySource struct {
	n    int
	list list
	sub  *bart.Table[*byDest] // in place of the list if not nil
}

// A byDest is the eroutes of one source prefix, by destination prefix.
type byDest struct {
	n    int
	list list
	sub  *bart.Table[*byPorts]
}

// A byPorts is the eroutes of one pair of prefixes, by protocol and ports.
type byPorts struct {
	n    int
	list list
	sub  *bart.Table[*Entry] // by portKey
}

// lookup returns the winner among the entries that match the packet, nil if
// none does.
func (t *bySource) lookup(p *Packet) *Entry {
	if t.sub == nil {
		for _, e := range t.list {
			if e.Src.Contains(p.Src) && e.Dst.Contains(p.Dst) && e.takesPorts(p) {
				return e
			}
		}
		return nil
	}
	var best *Entry
	for bits := p.Src.BitLen(); bits >= 0; {
		prefix, d, ok := t.sub.LookupPrefixLPM(netip.PrefixFrom(p.Src, bits))
		if !ok || best != nil && prefix.Addr() != best.Src.Addr() {
			break // addresses only get smaller from here
		}
		best = better(best, d.lookup(p))
		bits = prefix.Bits() - 1
	}
	return best
}

func (d *byDest) lookup(p *Packet) *Entry {
	if d.sub == nil {
		for _, e := range d.list {
			if e.Dst.Contains(p.Dst) && e.takesPorts(p) {
				return e
			}
		}
		return nil
	}
	var best *Entry
	for bits := p.Dst.BitLen(); bits >= 0; {
		prefix, q, ok := d.sub.LookupPrefixLPM(netip.PrefixFrom(p.Dst, bits))
		if !ok || best != nil && prefix.Addr() != best.Dst.Addr() {
			break
		}
		best = better(best, q.lookup(p))
		bits = prefix.Bits() - 1
	}
	return best
}

func (q *byPorts) lookup(p *Packet) *Entry {
	if q.sub == nil {
		for _, e := range q.list {
			if e.takesPorts(p) {
				return e
			}
		}
		return nil
	}
	// All keys that may match, greatest first.
	for _, proto := range [...]uint8{p.Proto, 0} {
		for _, sport := range [...]uint16{p.SrcPort, 0} {
			for _, dport := range [...]uint16{p.DstPort, 0} {
				if e, ok := q.sub.Get(portKey(proto, sport, dport)); ok {
					return e
				}
			}
		}
	}
	return nil
}

// portKey makes a protocol and ports a key for a table of prefixes, where only
// equal keys are looked for: a made-up IPv6 prefix of 40 bits.
func portKey(proto uint8, sport, dport uint16) netip.Prefix {
	var a [16]byte
	a[0] = proto
	binary.BigEndian.PutUint16(a[1:], sport)
	binary.BigEndian.PutUint16(a[3:], dport)
	return netip.PrefixFrom(netip.AddrFrom16(a), 40)
}

func (t *bySource) get(s klips.Selector) *Entry {
	if t.sub == nil {
		return t.list.find(s)
	}
	d, ok := t.sub.Get(s.Src)
	if !ok {
		return nil
	}
	if d.sub == nil {
		return d.list.find(s)
	}
	q, ok := d.sub.Get(s.Dst)
	if !ok {
		return nil
	}
	if q.sub == nil {
		return q.list.find(s)
	}
	e, _ := q.sub.Get(portKey(s.Proto, s.SrcPort, s.DstPort))
	return e
}

// with returns the eroutes with e in place of old, the two having one selector:
// e is added if old is nil, and old removed if e is nil. old must be there, and
// nothing else with the selector.
func (t *bySource) with(old, e *Entry) *bySource {
	n := &bySource{n: t.n + delta(old, e)}
	switch {
	case n.n == 0:
	case t.sub == nil && n.n <= maxList:
		n.list = t.list.with(old, e)
	case t.sub == nil:
		n.sub = new(bart.Table[*byDest])
		for _, x := range t.list.with(old, e) {
			n.sub.Modify(x.Src, destUpdate(nil, x))
		}
	default:
		n.sub = t.sub.ModifyPersist(selector(old, e).Src, destUpdate(old, e))
	}
	return n
}

// destUpdate makes the change of with one for the table of sources.
func destUpdate(old, e *Entry) func(*byDest, bool) (*byDest, bool) {
	return func(d *byDest, ok bool) (*byDest, bool) {
		if !ok {
			d = new(byDest)
		}
		d = d.with(old, e)
		return d, d.n == 0
	}
}

func (d *byDest) with(old, e *Entry) *byDest {
	n := &byDest{n: d.n + delta(old, e)}
	switch {
	case n.n == 0:
	case d.sub == nil && n.n <= maxList:
		n.list = d.list.with(old, e)
	case d.sub == nil:
		n.sub = new(bart.Table[*byPorts])
		for _, x := range d.list.with(old, e) {
			n.sub.Modify(x.Dst, portsUpdate(nil, x))
		}
	default:
		n.sub = d.sub.ModifyPersist(selector(old, e).Dst, portsUpdate(old, e))
	}
	return n
}

func portsUpdate(old, e *Entry) func(*byPorts, bool) (*byPorts, bool) {
	return func(q *byPorts, ok bool) (*byPorts, bool) {
		if !ok {
			q = new(byPorts)
		}
		q = q.with(old, e)
		return q, q.n == 0
	}
}

func (q *byPorts) with(old, e *Entry) *byPorts {
	n := &byPorts{n: q.n + delta(old, e)}
	s := selector(old, e)
	switch {
	case n.n == 0:
	case q.sub == nil && n.n <= maxList:
		n.list = q.list.with(old, e)
	case q.sub == nil:
		n.sub = new(bart.Table[*Entry])
		for _, x := range q.list.with(old, e) {
			n.sub.Insert(portKey(x.Proto, x.SrcPort, x.DstPort), x)
		}
	case e == nil:
		n.sub = q.sub.DeletePersist(portKey(s.Proto, s.SrcPort, s.DstPort))
	default:
		n.sub = q.sub.InsertPersist(portKey(s.Proto, s.SrcPort, s.DstPort), e)
	}
	return n
}

// selector returns the selector that a change is about.
func selector(old, e *Entry) *klips.Selector {
	if e != nil {
		return &e.Selector
	}
	return &old.Selector
}

// delta is by how many entries a change makes the table larger.
func delta(old, e *Entry) int {
	switch {
	case old == nil:
		return 1
	case e == nil:
		return -1
	}
	return 0
}

// all appends all entries to l, in no order.
func (t *bySource) all(l []*Entry) []*Entry {
	l = append(l, t.list...)
	if t.sub == nil {
		return l
	}
	for _, d := range t.sub.All() {
		l = append(l, d.list...)
		if d.sub == nil {
			continue
		}
		for _, q := range d.sub.All() {
			l = append(l, q.list...)
			if q.sub == nil {
				continue
			}
			for _, e := range q.sub.All() {
				l = append(l, e)
			}
		}
	}
	return l
}

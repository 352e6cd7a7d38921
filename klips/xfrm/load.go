package xfrm

import (
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A dump is the kernel's objects, ours and those of other programs, and its devices.
type dump struct {
	states   []*nlxfrm.State
	policies []*nlxfrm.Policy
	links    []rtnl.Link
	addrs    []rtnl.Addr
}

// clear overwrites the keys.
func (d *dump) clear() {
	for _, s := range d.states {
		s.ClearKeys()
	}
}

// load makes tables of a dump, and returns our objects in it. An SA whose state is
// missing, because it expired or another program removed it, is left out together with
// its group.
func load(d *dump) (*tables, *objects) {
	t, o := newTables(), newObjects()
	states := map[nlxfrm.ID]*nlxfrm.State{}
	for _, s := range d.states {
		if s.Mark == (nlxfrm.Mark{}) {
			states[s.ID] = s
		}
	}
	outer := map[*sa]klips.SAID{}
	also := map[klips.Selector]*nlxfrm.Policy{}
	var lost []*sa
	for _, p := range d.policies {
		if !ours(p) {
			continue
		}
		if p.Key() == censusKey() {
			o.census = p
			t.keep(secretOf(p))
			t.seen = readSeen(p)
			continue
		}
		o.add(p)
		if p.IfID == parkUsers || p.IfID == parkKeys {
			continue // they repeat what the others contain
		}
		t.next = max(t.next, age(p)+1)
		switch {
		case p.IfID == parkAlso:
			also[readRoute(p).Selector] = p
		case p.IfID == parkSAs:
			s, next, ok := readRecord(p)
			if !ok {
				continue // made by no version of this program; the next change removes it
			}
			t.sas[s.id], outer[s] = s, next
			if s.id.Proto == klips.ProtoTun {
				continue
			}
			id := kernelID(s.id)
			if s.state = states[id]; s.state != nil {
				o.states[id] = s.state
			} else {
				lost = append(lost, s)
			}
		case p.Dir == nlxfrm.DirOut:
			if r := readRoute(p); t.routes[r.Selector] == nil {
				t.routes[r.Selector] = r
			}
		}
	}
	// If two records name the same neighbour, the older one has it, in whatever order
	// the kernel lists them. An interrupted change leaves such records.
	for _, s := range t.byAge() {
		if n := t.sas[outer[s]]; n != nil && n.inner == nil && !slices.Contains(n.outwards(), s) {
			s.outer, n.inner = n, s
		}
	}
	t.seen.states = uint32(len(d.states) - len(o.states))
	for _, s := range lost {
		t.remove(s)
	}
	for _, r := range t.routes {
		r.take(also[r.Selector])
		t.use(r)
	}
	t.place(d)
	t.readKeys(d, o)
	return t, o
}

package plan

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// Diff returns the changes that take a stack from the state of have to the wanted
// state: that of an empty stack on the same host after the changes wanted. It ignores
// knobs and guards. It treats keys of equal length as equal, since snapshots contain no
// keys, and it ignores sequence numbers.
//
// The order is safe. New objects are made before old ones are removed, and inbound ones
// before outbound ones: a peer may send at once, and an eroute needs its SA. Old
// objects are removed in the opposite order: first eroutes, then outbound SAs, then
// inbound ones, since packets of the peer may still be on their way. A flow whose
// eroute leads to the same SAs before and after is not changed. If an SA or a group
// changes but keeps its SAID, the flows that it protects are dropped meanwhile: they
// never leave with half of their transforms.
//
// The changes have the SASpecs of wanted, which the caller still owns. The error is
// that of a stack that refuses one of wanted.
func Diff(ctx context.Context, have *Model, wanted ...klips.Change) ([]klips.Change, error) {
	want := NewModel(have.Local, have.Physical)
	want.has = have.has
	specs := map[klips.SAID]*klips.SASpec{}
	for _, c := range wanted {
		if err := want.Do(ctx, c); err != nil {
			return nil, err
		}
		if a, ok := c.(klips.AddSA); ok {
			specs[a.ID] = a.SASpec
		}
	}
	d := &diff{have: have, want: want, anew: map[klips.SAID]bool{}, dropped: map[klips.Selector]bool{}}
	for id, w := range want.sas {
		h := have.sas[id]
		d.anew[id] = h == nil || !sameForm(&h.SA, &w.SA) || !samePolicy(h, w) && want.policyOwner(id) != w
	}
	d.newDevices()
	d.drop()
	d.newSAs(specs)
	d.policies() // while each new SA is alone, and so the owner of its policy
	d.groups()
	d.eroutes()
	d.oldSAs()
	d.add(d.last...)
	d.oldDevices()
	d.debugMasks()
	return d.changes, nil
}

// A diff is two models and the changes found so far.
type diff struct {
	have, want *Model
	changes    []klips.Change
	anew       map[klips.SAID]bool     // SAs of want without an equal one in have
	dropped    map[klips.Selector]bool // eroutes of have that lead to %drop meanwhile
	last       []klips.Change          // for after the removal of the old SAs
}

func (d *diff) add(c ...klips.Change) { d.changes = append(d.changes, c...) }

// newDevices makes and attaches devices.
func (d *diff) newDevices() {
	for _, w := range d.want.devices {
		h := d.have.device(w.Name)
		if h == nil {
			d.add(klips.CreateDevice{Virtual: w.Name})
			h = &klips.Device{}
		}
		if w.Physical == "" || h.Physical == w.Physical && h.Direct == w.Direct {
			continue
		}
		if h.Physical != "" {
			d.add(klips.Detach{Virtual: w.Name})
		}
		d.add(klips.Attach{Virtual: w.Name, Physical: w.Physical, Direct: w.Direct})
	}
}

// oldDevices detaches and removes devices.
func (d *diff) oldDevices() {
	for _, h := range d.have.devices {
		switch w := d.want.device(h.Name); {
		case w == nil:
			d.add(klips.DeleteDevice{Virtual: h.Name})
		case w.Physical == "" && h.Physical != "":
			d.add(klips.Detach{Virtual: h.Name})
		}
	}
}

// drop leads eroutes to %drop if their SAs will change under the same SAID.
func (d *diff) drop() {
	for _, e := range d.have.EroutesByAge() {
		if slices.ContainsFunc(e.SAIDs(), d.disturbs) {
			d.dropped[e.Selector] = true
			d.add(klips.SetEroute{Eroute: klips.Eroute{Selector: e.Selector, ID: klips.Magic(klips.SPIDrop)}, Replace: true})
		}
	}
}

// disturbs reports whether an SA, or its group, will change under the same SAID.
func (d *diff) disturbs(id klips.SAID) bool {
	h, w := d.have.sas[id], d.want.sas[id]
	return h != nil && !d.stays(h.first()) || h == nil && w != nil
}

// stays reports whether a group, or a single SA, is wanted unchanged, or is old as a
// whole. h is the first SA of the group.
func (d *diff) stays(h *sa) bool {
	ids := h.rest()
	w := d.want.sas[h.ID]
	if w == nil {
		return !slices.ContainsFunc(ids, func(id klips.SAID) bool { return d.want.sas[id] != nil })
	}
	return w.before == nil && slices.Equal(w.rest(), ids) && !slices.ContainsFunc(ids, func(id klips.SAID) bool { return d.anew[id] })
}

// newSAs makes SAs, and first removes those with the same SAID and another form. It
// ungroups SAs that stay from those that are removed, because a group is removed as a
// whole.
func (d *diff) newSAs(specs map[klips.SAID]*klips.SASpec) {
	for _, h := range d.have.byAge() {
		if h.before == nil && h.behind != nil && !d.stays(h) {
			d.add(klips.Ungroup{ID: h.ID})
		}
	}
	for _, h := range ordered(d.have.sas, klips.Outbound) {
		if d.anew[h.ID] {
			d.add(klips.DeleteSA{ID: h.ID})
		}
	}
	for _, w := range ordered(d.want.sas, klips.Inbound) {
		if d.anew[w.ID] {
			d.add(klips.AddSA{SASpec: specs[w.ID]})
		}
	}
}

// sameForm reports whether two SAs are equal except for what packets and time change.
func sameForm(h, w *klips.SA) bool {
	limits := func(l klips.Life) klips.Life {
		for _, c := range []*klips.Counter{&l.Allocations, &l.Bytes, &l.AddTime, &l.UseTime, &l.Packets} {
			c.Count, c.Below = 0, 0
		}
		return l
	}
	return h.Transform == w.Transform && h.Dir == w.Dir && h.Src == w.Src && h.State != klips.Dead && h.State != klips.Larval &&
		h.AuthKeyBits == w.AuthKeyBits && h.EncKeyBits == w.EncKeyBits && h.Window == w.Window && h.ESN == w.ESN && h.Align8 == w.Align8 && h.CopyTOS == w.CopyTOS && h.Offload == w.Offload &&
		h.NATT == w.NATT && h.OutIf == w.OutIf && h.RefHim == w.RefHim && limits(h.Life) == limits(w.Life) &&
		(h.Policy == nil || w.Policy != nil) // no stack can remove a policy
}

// samePolicy reports whether h has the inbound policy that w has, if w has one.
func samePolicy(h, w *sa) bool {
	return w.Policy == nil || h.Policy != nil && *h.Policy == *w.Policy
}

// ordered returns SAs sorted by SAID, those of one direction first, so that each run
// gives the same list.
func ordered(sas map[klips.SAID]*sa, first klips.Direction) []*sa {
	return slices.SortedFunc(maps.Values(sas), func(a, b *sa) int {
		if a.Dir != b.Dir {
			if a.Dir == first {
				return -1
			}
			return 1
		}
		return cmp.Or(a.ID.Dst.Compare(b.ID.Dst), cmp.Compare(a.ID.Proto, b.ID.Proto), cmp.Compare(a.ID.SPI, b.ID.SPI))
	})
}

// groups makes the wanted groups that do not exist, the inbound ones first.
func (d *diff) groups() {
	for _, w := range ordered(d.want.sas, klips.Inbound) {
		if w.before != nil || w.behind == nil {
			continue
		}
		if h := d.have.sas[w.ID]; h != nil && d.stays(h.first()) {
			continue
		}
		d.add(d.want.groupAgainOf(w)...)
	}
}

// policies sets inbound policies.
func (d *diff) policies() {
	for _, w := range ordered(d.want.sas, klips.Inbound) {
		if w.Policy == nil {
			continue
		}
		if !d.anew[w.ID] && samePolicy(d.have.sas[w.ID], w) {
			continue
		}
		d.add(klips.SetPolicy{ID: w.ID, Policy: *w.Policy})
	}
}

// eroutes makes eroutes, changes the SAs of others, and then removes old ones.
func (d *diff) eroutes() {
	for _, w := range d.want.EroutesByAge() {
		h, there := d.have.routes[w.Selector]
		if there && h.SameTarget(&w) && !d.dropped[w.Selector] {
			continue
		}
		if slices.ContainsFunc(w.SAIDs(), d.goes) {
			d.last = append(d.last, klips.SetEroute{Eroute: w, Replace: true})
			w.ID, w.Also = klips.Magic(klips.SPIDrop), nil
		}
		d.add(klips.SetEroute{Eroute: w, Replace: there})
	}
	for _, h := range d.have.EroutesByAge() {
		if _, wanted := d.want.routes[h.Selector]; !wanted {
			d.add(klips.DeleteEroute{Selector: h.Selector})
		}
	}
}

// goes reports whether an SA will be removed.
func (d *diff) goes(id klips.SAID) bool { return d.want.sas[id] == nil && d.have.sas[id] != nil }

// oldSAs removes SAs, outbound ones first. A group that is old as a whole is removed
// with its first SA.
func (d *diff) oldSAs() {
	for _, h := range ordered(d.have.sas, klips.Outbound) {
		if d.want.sas[h.ID] == nil && (h.before == nil || !d.stays(h.first())) {
			d.add(klips.DeleteSA{ID: h.ID})
		}
	}
}

// debugMasks sets and clears bits.
func (d *diff) debugMasks() {
	if d.have.debug == d.want.debug {
		return
	}
	d.add(klips.SetDebug{DebugChange: klips.DebugChange{Set: true, Masks: d.want.debug}},
		klips.SetDebug{DebugChange: klips.DebugChange{Masks: d.want.debug}})
}

package plan

import (
	"context"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// Do carries out a change in the model. The error is that of a stack.
func (m *Model) Do(ctx context.Context, c klips.Change) error {
	_, err := serial.Apply(ctx, m, []klips.Change{c})
	return err
}

// Inverse returns the changes, in order, that undo a change if it is made now. ok is
// false if that is impossible: the keys of a removed SA are lost, and no stack can
// remove an inbound policy. A change that changes nothing has no changes as inverse.
func (m *Model) Inverse(c klips.Change) (back []klips.Change, ok bool) {
	switch c := c.(type) {
	case klips.AddSA:
		if m.sas[c.ID] != nil {
			return nil, true // it exists, and may be made again
		}
		return []klips.Change{klips.DeleteSA{ID: c.ID}}, true
	case klips.DeleteSA:
		return nil, m.sas[c.ID] == nil
	case klips.ClearSAs:
		return nil, len(m.sas) == 0
	case klips.Group:
		return m.regroup(c.IDs)
	case klips.Ungroup:
		if s := m.sas[c.ID]; s != nil {
			return m.groupAgainOf(s), true
		}
		return nil, true
	case klips.SetEroute:
		old, there := m.routes[c.Selector]
		switch {
		case there && c.Replace:
			return []klips.Change{klips.SetEroute{Eroute: old.Eroute, Replace: true}}, true
		case there:
			return nil, true // it may be made again
		}
		return []klips.Change{klips.DeleteEroute{Selector: c.Selector}}, true
	case klips.SetPolicy:
		if m.sas[c.ID] == nil {
			return nil, true
		}
		owner := m.policyOwner(c.ID)
		if owner.Policy == nil {
			return nil, false
		}
		return []klips.Change{klips.SetPolicy{ID: owner.ID, Policy: *owner.Policy}}, true
	case klips.DeleteEroute:
		if old, there := m.routes[c.Selector]; there {
			return []klips.Change{klips.SetEroute{Eroute: old.Eroute}}, true
		}
		return nil, true
	case klips.ClearEroutes:
		for _, e := range m.EroutesByAge() {
			back = append(back, klips.SetEroute{Eroute: e})
		}
		return back, true
	case klips.Attach:
		return []klips.Change{klips.Detach{Virtual: c.Virtual}}, true
	case klips.Detach:
		return m.attached(func(d klips.Device) bool { return d.Name == c.Virtual }), true
	case klips.DetachAll:
		return m.attached(func(klips.Device) bool { return true }), true
	case klips.CreateDevice:
		return []klips.Change{klips.DeleteDevice(c)}, true
	case klips.DeleteDevice:
		return append([]klips.Change{klips.CreateDevice(c)},
			m.attached(func(d klips.Device) bool { return d.Name == c.Virtual })...), true
	case klips.SetDebug:
		// First the bits that are set now are set, and then the others are cleared.
		return []klips.Change{
			klips.SetDebug{DebugChange: klips.DebugChange{Set: true, Masks: m.debug}},
			klips.SetDebug{DebugChange: klips.DebugChange{Masks: m.debug}},
		}, true
	}
	return nil, false
}

// attached returns the changes that attach devices as they are now.
func (m *Model) attached(want func(klips.Device) bool) (l []klips.Change) {
	for _, d := range m.devices {
		if d.Physical != "" && want(d) {
			l = append(l, klips.Attach{Virtual: d.Name, Physical: d.Physical, Direct: d.Direct})
		}
	}
	return l
}

// regroup returns the changes that give SAs their current groups again after they have
// been grouped.
func (m *Model) regroup(ids []klips.SAID) (back []klips.Change, ok bool) {
	if len(ids) == 0 || m.groupAgain(ids) {
		return nil, true
	}
	back = []klips.Change{klips.Ungroup{ID: ids[0]}}
	var seen []*sa
	for _, id := range ids {
		s := m.sas[id]
		if s == nil || slices.Contains(seen, s.first()) {
			continue
		}
		seen = append(seen, s.first())
		back = append(back, m.groupAgainOf(s)...)
	}
	return back, true
}

// groupAgainOf returns the changes that restore the group of an SA after it was taken
// apart: one change, or links of two if the group has more members than a change can
// name.
func (m *Model) groupAgainOf(s *sa) (l []klips.Change) {
	s = s.first()
	if ids := s.rest(); len(ids) > 1 && len(ids) <= klips.MaxGroup && !m.mixed(ids) {
		if s.Dir == klips.Inbound { // changes name SAs from the innermost on
			slices.Reverse(ids)
		}
		return []klips.Change{klips.Group{IDs: ids}}
	}
	for ; s.behind != nil; s = s.behind {
		inner, outer := s, s.behind
		if outer.Dir == klips.Inbound {
			inner, outer = outer, inner
		}
		l = append(l, klips.Group{IDs: []klips.SAID{inner.ID, outer.ID}})
	}
	return l
}

// mixed reports whether SAs have both directions: the outer SA decides the direction of
// a link.
func (m *Model) mixed(ids []klips.SAID) bool {
	return slices.ContainsFunc(ids, func(id klips.SAID) bool { return m.sas[id].Dir != m.sas[ids[0]].Dir })
}

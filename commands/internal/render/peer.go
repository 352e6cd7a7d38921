package render

import (
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// Peer returns the other end's half. An SA is the same at both ends: the one that sends here
// receives there. Packets that go into a group here are those that may come out of it there.
// The keys are shared with c.
func (c *Config) Peer() *Config {
	p := &Config{Notes: slices.Clone(c.Notes)}
	for _, g := range c.Groups {
		var there Group
		for _, sa := range g {
			s := *sa
			s.Seq, s.ReplaySeq = nil, nil
			switch {
			case sa.Dir == klips.Inbound && sa.ReplaySeq != nil:
				s.Dir, s.Seq = klips.Outbound, sa.ReplaySeq
			case sa.Dir == klips.Inbound:
				s.Dir = klips.Outbound
			case sa.Dir == klips.Outbound:
				s.Dir = klips.Inbound
				if sa.Window > 0 {
					s.ReplaySeq = sa.Seq
				}
			}
			s.OutIf, s.Offload, s.NATT.OA = 0, "", netip.Addr{} // of this host
			there = append(there, &s)
		}
		p.Groups = append(p.Groups, there)
		if g.outer().Dir != klips.Inbound {
			continue
		}
		flows := c.admitted(g)
		for _, f := range flows {
			p.Eroutes = append(p.Eroutes, klips.Eroute{Selector: f, ID: g[0].ID})
		}
		if flows == nil {
			p.noteFlow(false, g.String(), "it has no inbound policy here, and no eroute fits, so the peer's half has no eroute to it")
		}
	}
	for _, e := range c.Eroutes {
		if e.ID.IsMagic() {
			p.noteFlow(false, e.Selector.String(), e.ID.String()+" is the decision of one end alone, so the peer's half does not have it")
			continue
		}
		for _, id := range e.SAIDs() {
			g := c.Group(id)
			switch {
			case g == nil:
				p.noteFlow(false, e.Selector.String(), "there is no SA "+id.String())
			case g.outer().Dir == klips.Both:
				p.Eroutes = append(p.Eroutes, e)
			default:
				p.Policies = append(p.Policies, klips.SetPolicy{ID: g.Policed(), Policy: e.Selector})
			}
		}
	}
	for _, policy := range c.Policies {
		if c.Group(policy.ID).outer().Dir == klips.Both {
			p.Policies = append(p.Policies, policy)
		}
	}
	p.Sort()
	slices.SortFunc(p.Eroutes, klips.CompareEroutes)
	p.Eroutes = slices.CompactFunc(p.Eroutes, func(a, b klips.Eroute) bool {
		if a.Selector == b.Selector && a.ID != b.ID {
			p.noteFlow(true, b.Selector.String(), "both "+a.ID.String()+" and "+b.ID.String()+" receive such packets here; the eroute of the peer leads to the first")
		}
		return a.Selector == b.Selector
	})
	return p
}

package render

import (
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// An index finds the groups of a Config, and what belongs to them, without a search.
type index struct {
	groups   map[klips.SAID]Group
	policies map[*SA][]klips.SetPolicy // by the outermost SA of the group
	answers  map[*SA][]klips.Selector  // likewise, of groups that have no policy
}

// indexed returns the index, which it makes when it is first needed.
func (c *Config) indexed() *index {
	if c.index != nil {
		return c.index
	}
	x := &index{map[klips.SAID]Group{}, map[*SA][]klips.SetPolicy{}, map[*SA][]klips.Selector{}}
	c.index = x
	for _, g := range c.Groups {
		for _, sa := range g {
			if x.groups[sa.ID] == nil { // the tables of KLIPS can have an SA in two groups
				x.groups[sa.ID] = g
			}
		}
	}
	for _, p := range c.Policies {
		if g := x.groups[p.ID]; g != nil {
			x.policies[g.outer()] = append(x.policies[g.outer()], p)
		}
	}
	// The receivers without a policy, by their ends.
	type ends struct{ src, dst netip.Addr }
	receivers := map[ends][]Group{}
	for _, g := range c.Groups {
		if g.outer().Dir.Receives() && x.policies[g.outer()] == nil {
			src, dst := g.ends()
			receivers[ends{src, dst}] = append(receivers[ends{src, dst}], g)
		}
	}
	for _, e := range c.Eroutes {
		for _, id := range e.SAIDs() {
			out := x.groups[id]
			if out == nil {
				continue
			}
			src, dst := out.ends()
			var fits []Group
			for _, g := range slices.Concat(receivers[ends{dst, src}], receivers[ends{netip.Addr{}, src}]) {
				if g.answers(out) {
					fits = append(fits, g)
				}
			}
			if len(fits) == 1 {
				g := fits[0].outer()
				if r := e.Selector.Reverse(); !slices.Contains(x.answers[g], r) {
					x.answers[g] = append(x.answers[g], r)
				}
			}
		}
	}
	return x
}

// policies returns the inbound policies of a group.
func (c *Config) policies(g Group) []klips.SetPolicy { return c.indexed().policies[g.outer()] }

// admitted returns the packets that may come out of a group: those of its inbound policy.
// Without one, KLIPS takes all; other programs need a policy. Then these are the answers to
// the packets that are sent to the same peer, if no other group can receive them.
func (c *Config) admitted(g Group) (flows []klips.Selector) {
	for _, p := range c.policies(g) {
		flows = append(flows, p.Policy)
	}
	if flows == nil && g.outer().Dir.Receives() {
		flows = c.indexed().answers[g.outer()]
	}
	return flows
}

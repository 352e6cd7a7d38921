package xfrm

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// Foreign describes the states and policies of other programs, which no change touches.
func (s *Stack) Foreign(ctx context.Context) ([]string, error) {
	_, o, d, err := s.load(ctx)
	if err != nil {
		return nil, about(err, "list what others made", "")
	}
	defer d.clear()
	var lines []string
	states, policies := foreign(d, o)
	for _, x := range states {
		id := klips.SAID{Dst: x.Dst, SPI: klips.SPI(x.SPI), Proto: klips.Proto(x.Proto)}
		lines = append(lines, fmt.Sprintf("state %v from %v mode %v reqid %d%s", id, x.Src, x.Mode, x.ReqID, ifID(x.IfID)))
	}
	for _, p := range policies {
		verdict := p.Action.String()
		if p.Action == nlxfrm.Allow && len(p.Templates) > 0 {
			verdict = fmt.Sprintf("protect with %d SAs", len(p.Templates))
		}
		lines = append(lines, fmt.Sprintf("policy %v %v -> %v priority %d%s: %s", p.Dir, p.Selector.Src, p.Selector.Dst, p.Priority, ifID(p.IfID), verdict))
	}
	return lines, nil
}

// ForeignPolicies returns the policies of other programs. Of all that match, the kernel takes
// the one with the lowest priority, and of these the oldest.
func (s *Stack) ForeignPolicies(ctx context.Context) ([]klips.ForeignPolicy, error) {
	policies, err := s.xfrm.DumpPolicies(ctx)
	if err != nil {
		return nil, about(err, "list what others made", "")
	}
	// The indexes of policies ascend with their age.
	slices.SortFunc(policies, func(a, b *nlxfrm.Policy) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Index, b.Index))
	})
	var l []klips.ForeignPolicy
	for _, p := range policies {
		if ours(p) {
			continue
		}
		f := klips.ForeignPolicy{Selector: flowOf(&p.Selector), Direction: p.Dir.String(), Action: "allow", Priority: p.Priority, IfID: p.IfID}
		switch {
		case p.Action == nlxfrm.Block:
			f.Action = "block"
		case len(p.Templates) > 0:
			f.Action = "protect"
		}
		l = append(l, f)
	}
	return l, nil
}

// flowOf returns the packets that a selector of the kernel selects.
func flowOf(s *nlxfrm.Selector) klips.Selector {
	whole := func(p netip.Prefix) netip.Prefix {
		switch {
		case p.IsValid():
			return p.Masked()
		case s.Family == nlxfrm.FamilyIPv6:
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return klips.Selector{Src: whole(s.Src), Dst: whole(s.Dst), Proto: s.Proto, SrcPort: s.SrcPort & s.SrcPortMask, DstPort: s.DstPort & s.DstPortMask}
}

func ifID(id uint32) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf(" if_id %#x", id)
}

// foreign returns the states and policies of other programs.
func foreign(d *dump, o *objects) (states []*nlxfrm.State, policies []*nlxfrm.Policy) {
	const ipip = 4 // the kernel makes such states for IPComp tunnels by itself
	for _, s := range d.states {
		if o.states[s.ID] != s && s.Proto != ipip {
			states = append(states, s)
		}
	}
	for _, p := range d.policies {
		if !ours(p) {
			policies = append(policies, p)
		}
	}
	return states, policies
}

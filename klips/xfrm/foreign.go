package xfrm

import (
	"context"
	"fmt"

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

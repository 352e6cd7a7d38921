package foreign

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A reader holds what has been read.
type reader struct {
	text     []byte
	states   []*state
	named    map[klips.SAID]*state
	policies []*policy
	tuns     map[klips.SAID]bool // the tun SAs of all groups
	// ordered: a packet goes to the first policy that selects it.
	ordered bool
	config  render.Config
}

// A state is an SA in tunnel or transport mode.
type state struct {
	line    int
	sa      *render.SA
	mode    mode
	id      uint32 // by which policies find it; 0: none
	copyTOS bool   // in tunnel mode
	group   *group
}

// A mode is the mode of a state or a rule (RFC 4301 section 4.1).
type mode uint8

const (
	anyMode mode = iota // of the rules that use it
	transport
	tunnel
)

// A policy is packets, and the states that they go through or come from.
type policy struct {
	line     int
	dir      direction
	flow     klips.Selector
	shunt    klips.SPI // 0: none
	rules    []rule    // from the innermost to the outermost
	states   []*state  // in place of rules if they are known; likewise
	priority uint32
}

type direction uint8

const (
	out direction = iota
	in
	forward // what comes out of a tunnel and goes on; KLIPS has the inbound policy for both
)

// A rule selects a state.
type rule struct {
	proto    klips.Proto
	mode     mode
	src, dst netip.Addr // not valid: those of the packet, or of the other rules
	spi      klips.SPI  // 0: any
	id       uint32     // 0: any
}

// A group is the states of one chain.
type group struct {
	states []*state
	sas    render.Group
	in     bool
	out    bool
}

func (r *reader) clear() {
	for _, s := range r.states {
		s.sa.ClearKeys()
	}
}

// addState checks a state, and keeps it.
func (r *reader) addState(s *state) error {
	if len(r.states) == maxStates {
		return errorf(s.line, "these are more than %d SAs; split the text", maxStates)
	}
	r.states = append(r.states, s)
	sa := s.sa
	sa.EncKeyBits, sa.AuthKeyBits = 8*len(sa.EncKey), 8*len(sa.AuthKey)
	if sa.ID.Proto == klips.ProtoESP || sa.ID.Proto == klips.ProtoAH {
		if err := syntax.CheckKeys(sa.ID, sa.Transform, sa.AuthKey, sa.EncKey); err != nil {
			return errorf(s.line, "%s: %v", sa.ID, err)
		}
	}
	if f := sa.Fault(); f != klips.FaultNone {
		return errorf(s.line, "%s: the ends, the CPI or the encapsulation cannot be those of an SA", sa.ID)
	}
	for _, err := range []error{sa.CheckName(), sa.Check()} {
		if err != nil {
			return errorf(s.line, "%s: %v", sa.ID, err)
		}
	}
	if sa.Src.IsValid() && sa.Src.Is4() != sa.ID.Dst.Is4() {
		return errorf(s.line, "%s: the source is of another family", sa.ID)
	}
	if o := r.named[sa.ID]; o != nil {
		return errorf(s.line, "%s is at line %d already", sa.ID, o.line)
	}
	if r.named == nil {
		r.named = map[klips.SAID]*state{}
	}
	r.named[sa.ID] = s
	return nil
}

// addPolicy keeps a policy.
func (r *reader) addPolicy(p *policy) error {
	switch {
	case len(r.policies) == maxPolicies:
		return errorf(p.line, "these are more than %d policies; split the text", maxPolicies)
	case len(p.rules) > klips.MaxGroup:
		return errorf(p.line, "the policy for %s needs %d SAs, and a group has at most %d", p.flow, len(p.rules), klips.MaxGroup)
	}
	r.policies = append(r.policies, p)
	return nil
}

// maxPolicies and maxStates limit the work of comparing each with each.
const (
	maxPolicies = 4096
	maxStates   = 16384
)

// assemble makes groups, eroutes and inbound policies.
func (r *reader) assemble() error {
	if err := r.checkOrder(); err != nil {
		return err
	}
	var groups []*group
	admits := map[klips.Selector]bool{}
	for _, p := range r.policies {
		if p.dir == in {
			admits[p.flow] = true
		}
	}
	for _, p := range r.policies {
		switch {
		case p.dir == forward:
			if !admits[p.flow] {
				r.note(p.flow.String(), "there is a forward policy without an inbound one; in KLIPS one inbound policy is for both")
			}
			continue
		case p.shunt != 0 && p.dir == in:
			r.note(p.flow.String(), "an inbound policy that passes or drops packets has no equivalent; a packet filter has")
			continue
		case p.shunt != 0:
			if err := r.addEroute(p, klips.Magic(p.shunt)); err != nil {
				return err
			}
			continue
		}
		states, err := r.resolve(p)
		if err != nil {
			return err
		}
		g := states[0].group
		if g == nil {
			if g, err = r.newGroup(p, states); err != nil {
				return err
			}
			groups = append(groups, g)
		} else if !slices.Equal(g.states, states) {
			return errorf(p.line, "%s is in another chain of SAs already (line %d); in KLIPS an SA is in one group", states[0].sa.ID, g.states[0].line)
		}
		if p.dir == out {
			g.out = true
			if err := r.addEroute(p, g.sas[0].ID); err != nil {
				return err
			}
		} else {
			g.in = true
			r.config.Policies = append(r.config.Policies, klips.SetPolicy{ID: g.sas.Policed(), Policy: p.flow})
		}
	}
	for _, s := range r.states {
		if s.group == nil {
			if s.mode == anyMode {
				s.mode = transport
			}
			g, err := r.newGroup(&policy{line: s.line}, []*state{s})
			if err != nil {
				return err
			}
			groups = append(groups, g)
		}
	}
	for _, g := range groups {
		for _, sa := range g.sas {
			switch {
			case g.in && g.out:
				sa.Dir = klips.Both
			case g.in:
				sa.Dir = klips.Inbound
				sa.CopyTOS = false // it has no effect on SAs that receive
			}
		}
		r.config.Groups = append(r.config.Groups, g.sas)
	}
	r.config.Sort()
	slices.SortFunc(r.config.Eroutes, klips.CompareEroutes)
	return nil
}

func (r *reader) note(object, why string) {
	r.config.Notes = append(r.config.Notes, render.Note{Object: object, Why: why, Left: true})
}

func (r *reader) addEroute(p *policy, id klips.SAID) error {
	for _, e := range r.config.Eroutes {
		if e.Selector == p.flow {
			return errorf(p.line, "there is a policy for %s already", p.flow)
		}
	}
	r.config.Eroutes = append(r.config.Eroutes, klips.Eroute{Selector: p.flow, ID: id})
	return nil
}

// newGroup makes the group of a chain, with a tun SA for each tunnel. Its SPI is that of the
// SA in tunnel mode, or the next one that is free; MinSPI comes after the last one.
func (r *reader) newGroup(p *policy, states []*state) (*group, error) {
	g := &group{states: states}
	for _, s := range states {
		if s.group != nil {
			return nil, errorf(p.line, "%s is in another chain of SAs already (line %d); in KLIPS an SA is in one group", s.sa.ID, s.group.states[0].line)
		}
		if s.mode == tunnel {
			id := klips.SAID{Dst: s.sa.ID.Dst, SPI: s.sa.ID.SPI, Proto: klips.ProtoTun}
			for r.tuns[id] {
				id.SPI = max(id.SPI+1, klips.MinSPI) // 0 comes after the last one
			}
			r.tuns[id] = true
			tun := &render.SA{}
			tun.ID, tun.Src, tun.CopyTOS = id, s.sa.Src, s.copyTOS
			g.sas = append(g.sas, tun)
		}
		g.sas = append(g.sas, s.sa)
	}
	if len(g.sas) > klips.MaxGroup {
		return nil, errorf(p.line, "the chain has %d SAs in KLIPS, and a group has at most %d", len(g.sas), klips.MaxGroup)
	}
	for _, s := range states {
		s.group = g
	}
	return g, nil
}

// resolve returns the states of a policy, from the innermost to the outermost.
func (r *reader) resolve(p *policy) (list []*state, err error) {
	if p.states != nil {
		return p.states, nil
	}
	if len(p.rules) == 0 {
		return nil, errorf(p.line, "the policy for %s names no SA", p.flow)
	}
	src, dst := r.ends(p)
	for i := range p.rules {
		ru := &p.rules[i]
		if !ru.src.IsValid() {
			ru.src = src
		}
		if !ru.dst.IsValid() {
			ru.dst = dst
		}
		fits := r.fitting(ru)
		switch {
		case len(fits) == 0:
			return nil, errorf(p.line, "the policy for %s needs an SA of protocol %s that the text does not have%s", p.flow, ru.proto, ru.hint())
		case len(fits) > 1:
			return nil, errorf(p.line, "the policy for %s fits %s and %s; give it the number of one (reqid, SPI or unique:)", p.flow, fits[0].sa.ID, fits[1].sa.ID)
		}
		if fits[0].mode == anyMode {
			fits[0].mode = ru.mode
		}
		list = append(list, fits[0])
	}
	return list, nil
}

// ends returns the ends of the SAs of a policy whose rules do not name them all: those of its
// tunnel, of an SA that a rule names, or of its packets if these are from one host to another.
func (r *reader) ends(p *policy) (src, dst netip.Addr) {
	for i := range p.rules {
		if ru := &p.rules[i]; ru.dst.IsValid() {
			return ru.src, ru.dst
		}
	}
	for i := range p.rules {
		if fits := r.fitting(&p.rules[i]); len(fits) == 1 {
			return fits[0].sa.Src, fits[0].sa.ID.Dst
		}
	}
	if p.flow.Src.IsSingleIP() && p.flow.Dst.IsSingleIP() {
		return p.flow.Src.Addr(), p.flow.Dst.Addr()
	}
	return netip.Addr{}, netip.Addr{}
}

// fitting returns the states that a rule selects.
func (r *reader) fitting(ru *rule) (list []*state) {
	for _, s := range r.states {
		if ru.fits(s) {
			list = append(list, s)
		}
	}
	return list
}

func (ru *rule) fits(s *state) bool {
	sa := s.sa
	named := func(want, have netip.Addr) bool { return !want.IsValid() || want.IsUnspecified() || want == have }
	return sa.ID.Proto == ru.proto && (ru.mode == s.mode || ru.mode == anyMode || s.mode == anyMode) &&
		(ru.spi == 0 || ru.spi == sa.ID.SPI) && (ru.id == 0 || ru.id == s.id) &&
		named(ru.dst, sa.ID.Dst) && (named(ru.src, sa.Src) || !sa.Src.IsValid() || sa.Src.IsUnspecified())
}

// hint returns what else the rule asks for.
func (ru *rule) hint() string {
	switch {
	case ru.spi != 0:
		return fmt.Sprintf(", with SPI 0x%x", uint32(ru.spi))
	case ru.dst.IsValid() && !ru.dst.IsUnspecified():
		return ", to " + ru.dst.String()
	}
	return ""
}

// checkOrder refuses policies whose order is not that of KLIPS, which does not depend on the
// order of the commands.
func (r *reader) checkOrder() error {
	if !r.ordered {
		return nil
	}
	var list []*policy
	for _, p := range r.policies {
		if p.dir == out {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b *policy) int { return cmp.Compare(a.priority, b.priority) })
	for i, a := range list {
		for _, b := range list[i+1:] {
			if b.flow.Rank() > a.flow.Rank() && a.flow.Overlaps(b.flow) {
				return errorf(a.line, "here %s comes before %s of line %d, and both select some packets; KLIPS takes the narrower one first, so make the first one narrower", a.flow, b.flow, b.line)
			}
		}
	}
	return nil
}

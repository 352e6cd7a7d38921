// Package render writes SAs and eroutes in the languages of other programs.
//
// A [Config] is what is written. Each language is a file of this package. What a language
// cannot express is never left out silently: it is a [Note] and a comment in the text.
package render

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// A Config is the SAs and eroutes of one end. Its lists must not change once one of its methods
// has been called, except [Config.Sort].
type Config struct {
	Groups  []Group
	Eroutes []klips.Eroute
	// Policies are the inbound policies. ID is an SA of the group that has the policy.
	Policies []klips.SetPolicy
	// Devices are the virtual devices that are attached; other programs have none.
	Devices []klips.Device
	// Notes are about what the Config itself does not have, such as the half of a peer that
	// does not follow from this end.
	Notes []Note

	index *index // nil: it is not made yet
}

// A Group is SAs from the innermost to the outermost; at least one.
type Group []*SA

// An SA is a security association.
type SA struct {
	// The keys are nil if they are not shown or not known. Seq and ReplaySeq are nil for 0.
	klips.SASpec
	Dir klips.Direction
	// The lengths of the keys, also if these are not there; 0: there is none.
	EncKeyBits, AuthKeyBits int
}

// NewSA returns an SA of a listing, without its keys.
func NewSA(sa *klips.SA) *SA {
	s := &SA{Dir: sa.Dir, EncKeyBits: sa.EncKeyBits, AuthKeyBits: sa.AuthKeyBits, SASpec: klips.SASpec{
		ID: sa.ID, Src: sa.Src, Transform: sa.Transform, Window: sa.Window, ESN: sa.ESN, Align8: sa.Align8,
		CopyTOS: sa.CopyTOS, NATT: sa.NATT.WithPorts(), OutIf: sa.OutIf, Offload: sa.Offload,
	}}
	s.Soft = limits(&sa.Life, func(c klips.Counter) uint64 { return c.Soft })
	s.Hard = limits(&sa.Life, func(c klips.Counter) uint64 { return c.Hard })
	switch numbered := sa.ID.Proto == klips.ProtoESP || sa.ID.Proto == klips.ProtoAH; {
	case !numbered || sa.Seq == 0:
	case sa.Dir == klips.Inbound && sa.Window > 0:
		s.ReplaySeq = new(sa.Seq)
	case sa.Dir == klips.Outbound:
		s.Seq = new(sa.Seq)
	}
	return s
}

func limits(l *klips.Life, of func(klips.Counter) uint64) klips.Limits {
	return klips.Limits{
		Allocations: uint32(of(l.Allocations)), Bytes: of(l.Bytes), AddTime: of(l.AddTime), UseTime: of(l.UseTime), Packets: of(l.Packets),
	}
}

// NewConfig returns the SAs and eroutes of a stack's tables, without keys. SAs that carry no
// packets are left out.
func NewConfig(t *klips.Snapshot) *Config {
	c := &Config{}
	sas := map[klips.SAID]*klips.SA{}
	follows := map[klips.SAID]bool{}
	for i := range t.SAs {
		sa := &t.SAs[i]
		if sa.State != klips.Mature && sa.State != klips.Dying {
			c.Notes = append(c.Notes, Note{Object: sa.ID.String(), Why: "it carries no packets: it is not complete, or has expired", Left: true})
			continue
		}
		sas[sa.ID] = sa
		for _, id := range sa.Next {
			follows[id] = true
		}
	}
	for i := range t.SAs {
		sa := &t.SAs[i]
		if sas[sa.ID] == nil || follows[sa.ID] {
			continue
		}
		g := Group{NewSA(sa)}
		for _, id := range sa.Next {
			if next := sas[id]; next != nil {
				g = append(g, NewSA(next))
			}
		}
		if sa.Dir == klips.Inbound { // listings have the order of processing
			slices.Reverse(g)
		}
		c.Groups = append(c.Groups, g)
		for _, s := range g {
			if p := sas[s.ID].Policy; p != nil {
				c.Policies = append(c.Policies, klips.SetPolicy{ID: s.ID, Policy: *p})
			}
		}
	}
	for _, d := range t.Devices {
		if d.Physical != "" {
			c.Devices = append(c.Devices, d)
		}
	}
	for _, e := range t.Eroutes {
		c.Eroutes = append(c.Eroutes, klips.Eroute{Selector: e.Selector, ID: e.ID, Also: e.Also})
	}
	c.Sort()
	return c
}

// Sort puts the groups and policies into an order that does not depend on the stack: inbound
// ones first, as a peer may send at once, and then by SAID.
func (c *Config) Sort() {
	slices.SortStableFunc(c.Groups, func(a, b Group) int { return compareSAs(a.outer(), b.outer()) })
	order := map[klips.SAID]int{}
	for i, g := range c.Groups {
		for _, sa := range g {
			order[sa.ID] = i
		}
	}
	slices.SortStableFunc(c.Policies, func(a, b klips.SetPolicy) int { return order[a.ID] - order[b.ID] })
}

func compareSAs(a, b *SA) int {
	if r := a.Dir.Receives(); r != b.Dir.Receives() {
		if r {
			return -1
		}
		return 1
	}
	return cmp.Or(
		a.ID.Dst.Compare(b.ID.Dst),
		cmp.Compare(a.ID.Proto, b.ID.Proto),
		cmp.Compare(a.ID.SPI, b.ID.SPI),
	)
}

// SAs returns all SAs, in the order of their groups.
func (c *Config) SAs() []*SA { return slices.Concat(c.Groups...) }

// Clear overwrites all keys.
func (c *Config) Clear() {
	for _, sa := range c.SAs() {
		sa.ClearKeys()
	}
}

// Group returns the group of an SA; nil if it does not exist.
func (c *Config) Group(id klips.SAID) Group {
	return c.indexed().groups[id]
}

// Select returns the groups that have an SA of ids, with their policies and the eroutes that
// lead to them, and the eroutes with one of the selectors. The devices stay.
func (c *Config) Select(ids []klips.SAID, selectors []klips.Selector) *Config {
	s := &Config{Devices: c.Devices}
	chosen := map[klips.SAID]bool{}
	for _, id := range ids {
		g := c.Group(id)
		if g == nil || chosen[g[0].ID] {
			continue
		}
		s.Groups = append(s.Groups, g)
		for _, sa := range g {
			chosen[sa.ID] = true
		}
	}
	for _, p := range c.Policies {
		if chosen[p.ID] {
			s.Policies = append(s.Policies, p)
		}
	}
	for _, e := range c.Eroutes {
		leads := slices.ContainsFunc(e.SAIDs(), func(id klips.SAID) bool { return chosen[id] })
		if leads || slices.Contains(selectors, e.Selector) {
			s.Eroutes = append(s.Eroutes, e)
		}
	}
	for _, n := range c.Notes {
		if slices.ContainsFunc(ids, func(id klips.SAID) bool { return id.String() == n.Object }) {
			s.Notes = append(s.Notes, n)
		}
	}
	s.Sort()
	return s
}

// index returns the place of an SA; -1: it is not in the group.
func (g Group) index(id klips.SAID) int {
	return slices.IndexFunc(g, func(sa *SA) bool { return sa.ID == id })
}

func (g Group) outer() *SA { return g[len(g)-1] }

// Policed returns the SA that an inbound policy of the group names, so that it is about the
// innermost packets, see [klips.SetPolicy].
func (g Group) Policed() klips.SAID {
	for _, sa := range g {
		if sa.ID.Proto == klips.ProtoTun {
			return sa.ID
		}
	}
	return g.outer().ID
}

// SAIDs returns the names of the SAs.
func (g Group) SAIDs() (ids []klips.SAID) {
	for _, sa := range g {
		ids = append(ids, sa.ID)
	}
	return ids
}

// String returns the SAIDs.
func (g Group) String() string { return klips.JoinSAIDs(g.SAIDs()) }

// A layer is a transform of a group in the terms of RFC 4301: an SA in tunnel or transport
// mode.
type layer struct {
	*SA
	tun      *SA        // the tun SA whose work it does in tunnel mode; nil: transport mode
	src, dst netip.Addr // the ends; src can be unspecified
}

func (l *layer) mode() string {
	if l.tun != nil {
		return "tunnel"
	}
	return "transport"
}

// layers returns the transforms of a group from the innermost to the outermost. why is the
// reason why there are none, empty if there are: in KLIPS a tunnel is an SA of its own, and
// elsewhere it is the mode of the SA that follows it.
func (g Group) layers() (l []layer, why string) {
	var tun *SA
	for _, sa := range g {
		if sa.ID.Proto == klips.ProtoTun {
			if tun != nil {
				return nil, "it is a tunnel by itself: no esp or ah SA follows it"
			}
			tun = sa
			continue
		}
		m := layer{SA: sa, tun: tun, src: sa.Src, dst: sa.ID.Dst}
		if tun != nil {
			if !specified(m.src) {
				m.src = tun.Src
			}
			if tun.ID.Dst != sa.ID.Dst || specified(tun.Src) && tun.Src != m.src {
				return nil, "the ends of " + tun.ID.String() + " are not those of " + sa.ID.String()
			}
			tun = nil
		}
		l = append(l, m)
	}
	if tun != nil {
		return nil, "it is a tunnel by itself: no esp or ah SA follows it"
	}
	return l, ""
}

func specified(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

// ends returns the source and the destination of a group's packets on the wire; src is not
// valid if no SA has it.
func (g Group) ends() (src, dst netip.Addr) {
	for i := len(g) - 1; i >= 0 && g[i].ID.Dst == g.outer().ID.Dst; i-- {
		if specified(g[i].Src) {
			return g[i].Src, g.outer().ID.Dst
		}
	}
	return netip.Addr{}, g.outer().ID.Dst
}

// answers reports whether packets of g are answers to those of o: the ends are exchanged, and
// the protocols are the same. An unknown source fits.
func (g Group) answers(o Group) bool {
	src, dst := g.ends()
	osrc, odst := o.ends()
	return (!src.IsValid() || src == odst) && (!osrc.IsValid() || osrc == dst) &&
		slices.EqualFunc(g, o, func(a, b *SA) bool { return a.ID.Proto == b.ID.Proto })
}

// byPriority returns eroutes in the order in which a program must look at them to choose as
// KLIPS does.
func byPriority(l []klips.Eroute) []klips.Eroute {
	return slices.SortedStableFunc(slices.Values(l), func(a, b klips.Eroute) int { return int(b.Rank()) - int(a.Rank()) })
}

// ofEach returns the selectors that together select the same packets, each for one protocol
// if there is a port: most languages have no word for the ports of both TCP and UDP.
func ofEach(s klips.Selector) []klips.Selector {
	if !s.OfBoth() {
		return []klips.Selector{s}
	}
	tcp, udp := s, s
	tcp.Proto, udp.Proto = 6, 17
	return []klips.Selector{tcp, udp}
}

package xfrm

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// objects are states and policies that are, or should be, in the kernel.
type objects struct {
	states   map[nlxfrm.ID]*nlxfrm.State
	made     map[nlxfrm.ID]bool // IDs of states that must be made even if they exist
	policies map[nlxfrm.PolicyKey]*nlxfrm.Policy
	order    []nlxfrm.PolicyKey // of the policies: records by age
	// census is the policy with it, nil for none. The others are about these objects.
	census *nlxfrm.Policy
	tally  tally
	kinds  map[nlxfrm.PolicyKey]kind // of the policies of groups that have one
}

func newObjects() *objects {
	return &objects{states: map[nlxfrm.ID]*nlxfrm.State{}, made: map[nlxfrm.ID]bool{}, policies: map[nlxfrm.PolicyKey]*nlxfrm.Policy{}, tally: newTally(), kinds: map[nlxfrm.PolicyKey]kind{}}
}

func (o *objects) add(p *nlxfrm.Policy) {
	for i := range p.Templates {
		p.Templates[i] = normalTemplate(p.Templates[i])
	}
	o.policies[p.Key()] = p
	o.order = append(o.order, p.Key())
}

// normalTemplate returns a template in the form in which the kernel shows it.
func normalTemplate(t nlxfrm.Template) nlxfrm.Template {
	zero := netip.IPv4Unspecified()
	if t.Family == nlxfrm.FamilyIPv6 {
		zero = netip.IPv6Unspecified()
	}
	if !t.Dst.IsValid() {
		t.Dst = zero
	}
	if !t.Src.IsValid() {
		t.Src = zero
	}
	return t
}

// A member is an SA of a group, with its state.
type member struct {
	*sa
	mode nlxfrm.Mode
	src  netip.Addr // of the outer header
	tun  *sa        // the tun SA for which it is in tunnel mode
}

// inexpressible is the error of something that KLIPS can do and the kernel cannot.
func inexpressible(id klips.SAID, format string, args ...any) error {
	return refuse("", id.String(), syscall.EOPNOTSUPP, fmt.Sprintf(format, args...)+"; stack user can do it")
}

// layout returns the states that implement a group; none for a tun SA by itself.
func layout(group []*sa) ([]member, error) {
	var l []member
	var tun *sa
	for _, s := range group {
		if s.id.Proto == klips.ProtoTun {
			if tun != nil {
				return nil, inexpressible(tun.id, "XFRM cannot use a tun SA by itself: an esp or ah SA must follow it")
			}
			tun = s
			continue
		}
		m := member{sa: s, src: s.src, tun: tun}
		if tun != nil {
			m.mode = nlxfrm.ModeTunnel
			if s.src.IsUnspecified() {
				m.src = tun.src
			}
			switch {
			case tun.id.Dst != s.id.Dst, m.src != tun.src && !tun.src.IsUnspecified():
				return nil, inexpressible(s.id, "in this kernel an SA has the ends of its tunnel: those of %v are %v and %v, these are %v and %v",
					tun.id, tun.src, tun.id.Dst, s.src, s.id.Dst)
			case m.src.IsUnspecified() && s.dir.Sends():
				return nil, fault("", tun.id, klips.FaultTunnelSource, "")
			}
			tun = nil
		}
		if m.tun != nil && m.policy != nil && m.tun.policy != nil && *m.policy != *m.tun.policy {
			return nil, inexpressible(s.id, "in this kernel an SA has the inbound policy of its tunnel, and those of %v and %v differ: make %v anew, and set the policy when it is in its group",
				m.tun.id, s.id, s.id)
		}
		l = append(l, m)
	}
	if tun != nil && len(group) > 1 {
		return nil, inexpressible(tun.id, "XFRM cannot use a tun SA by itself: an esp or ah SA must follow it in the group (name all members in one command)")
	}
	if len(l) > nlxfrm.MaxTemplates {
		return nil, inexpressible(group[0].id, "this kernel takes %d SAs with keys in a group, this would have %d", nlxfrm.MaxTemplates, len(l))
	}
	return l, nil
}

// compile returns the objects that the kernel needs for the tables. An error names what
// the kernel cannot do. It is errFar if that depends on objects that were not read.
func (t *tables) compile() (*objects, error) {
	o := newObjects()
	in := classes{}
	routes := t.routesByAge()
	bound := t.bind(routes)
	for _, s := range t.byAge() {
		o.add(s.record(t.users[s.id], bound.further[s.id], bound.window(s)))
		o.tally.sas++
		if s.inner != nil {
			continue
		}
		l, err := layout(s.outwards())
		if err != nil {
			return nil, err
		}
		ifID, attached := t.ifIDOf(s, l)
		p := inbound(l)
		for i, m := range l {
			w := m.wanted(ifID, attached, p)
			bound.bindState(s, i, &m, w)
			o.states[m.state.ID] = w
			o.made[m.state.ID] = m.made
			o.tally.states++
		}
		if s.dir.Receives() && attached && (tunnels(l) || p != nil) {
			in.add(ifID, l, o)
		}
	}
	if err := in.compile(t, o); err != nil {
		return nil, err
	}
	for _, r := range routes {
		if err := t.compileRoute(r, bound, o); err != nil {
			return nil, err
		}
		o.tally.routes++
	}
	t.compileUsers(o)
	o.census = census{o.tally.plus(t.rest), t.own.Secret(), t.seen}.policy()
	return o, nil
}

// byAge returns all SAs, oldest first.
func (t *tables) byAge() []*sa {
	return slices.SortedFunc(maps.Values(t.sas), func(a, b *sa) int { return cmp.Compare(a.age, b.age) })
}

// routesByAge returns all eroutes, oldest first: the kernel keeps the order in which it
// receives them.
func (t *tables) routesByAge() []*route {
	return slices.SortedFunc(maps.Values(t.routes), func(a, b *route) int { return cmp.Compare(a.age, b.age) })
}

// tunnels reports whether a group has a tunnel.
func tunnels(l []member) bool {
	return slices.ContainsFunc(l, func(m member) bool { return m.tun != nil })
}

// ifIDOf returns the interface ID of a group's states and policies; attached is false
// if there is no device.
//
// In transport mode the ID is 0. A packet in transport mode keeps its route; if that
// led into an xfrm interface, the packet would loop. So the policies are for packets
// that are routed as without IPsec.
func (t *tables) ifIDOf(s *sa, l []member) (id uint32, attached bool) {
	d, attached := t.deviceOf(s)
	if !tunnels(l) {
		return 0, attached
	}
	return d.ifID, attached
}

// deviceOf returns the device of a group's packets: the one that an SA names, the one
// on the physical device with the group's local address, or the first.
func (t *tables) deviceOf(s *sa) (device, bool) {
	if len(t.devices) == 0 {
		return device{}, false
	}
	const firstOutIf = 49152 // number of ipsec0 in the PF_KEY extension
	group := s.group()
	for _, m := range group {
		for _, d := range t.devices {
			if m.outIf != 0 && int(m.outIf) == firstOutIf+d.number {
				return d, true
			}
		}
	}
	if len(t.devices) > 1 {
		outermost := group[len(group)-1]
		local := outermost.src
		if outermost.dir == klips.Inbound {
			local = outermost.id.Dst
		}
		for _, d := range t.devices {
			if i, ok := t.local[local]; ok && i == d.physical {
				return d, true
			}
		}
	}
	return t.devices[0], true
}

// wanted returns the state that a member needs. It shares the keys of the existing
// state.
//
// The kernel compares packets with the selectors of all their states before it checks
// policies. A state in transport mode has the group's selector, unless it has its own:
// a packet that came uncompressed skips the IPComp state, and its selector with it.
func (m *member) wanted(ifID uint32, attached bool, group *klips.InboundPolicy) *nlxfrm.State {
	s := *m.state
	s.Mode, s.Src = m.mode, m.src
	s.ReqID = s.SPI
	s.Selector, s.OutputMark = nlxfrm.Selector{}, nlxfrm.Mark{}
	s.Flags, s.ExtraFlags = m.tosFlags(s.Flags, s.ExtraFlags)
	if attached {
		s.IfID = ifID
	}
	p := m.inbound()
	if p == nil && m.tun == nil {
		p = group
	}
	if p != nil && (m.tun != nil || p.Is6() == m.id.Dst.Is6()) {
		s.Selector = selectorOf(*p)
	}
	return &s
}

// tosFlags sets the flags of a state for the TOS of outer headers. Without them the
// kernel copies it, but sends ECT(0) for CE (RFC 3168 section 9.1.1). A state that
// receives must not have the flag about ECN: the kernel would not copy the congestion
// marks of the headers that it removes (RFC 6040 section 4.2). In transport mode they
// have no effect, and stay as they are.
func (m *member) tosFlags(flags uint8, extra uint32) (uint8, uint32) {
	if m.tun == nil {
		return flags, extra
	}
	flags, extra = flags&^nlxfrm.FlagNoECN, extra&^nlxfrm.ExtraDontEncapDSCP
	if m.tun.copyTOS || !m.dir.Sends() {
		return flags, extra
	}
	if !m.dir.Receives() {
		flags |= nlxfrm.FlagNoECN
	}
	return flags, extra | nlxfrm.ExtraDontEncapDSCP
}

// inbound returns the inbound policy of a member: that of the tun SA for which it is in
// tunnel mode, or its own.
func (m *member) inbound() *klips.InboundPolicy {
	switch {
	case m.dir == klips.Outbound:
		return nil
	case m.tun != nil && m.tun.policy != nil:
		return m.tun.policy
	}
	return m.policy
}

// inbound returns the inbound policy of a group. Of nested tunnels it is that of the
// innermost, because the kernel compares the packet that has come out of all.
func inbound(l []member) *klips.InboundPolicy {
	for _, m := range l {
		if p := m.inbound(); p != nil || m.tun != nil {
			return p
		}
	}
	return nil
}

// classes are sets of inbound groups that the kernel cannot distinguish by device or by
// inbound policy.
type classes map[class][][]member

type class struct {
	ifID   uint32
	policy klips.InboundPolicy // the zero InboundPolicy: none
}

// admits reports whether there is an inbound policy.
func (k class) admits() bool { return k.policy.Src.IsValid() }

// add adds a group, and gives its states the reqids by which policies find them.
func (c classes) add(ifID uint32, l []member, o *objects) {
	k := class{ifID: ifID}
	if p := inbound(l); p != nil {
		k.policy = *p
	}
	c[k] = append(c[k], l)
	for i, m := range l {
		o.states[m.state.ID].ReqID = k.reqID(shape(l), i)
	}
	if !k.admits() {
		o.tally.kinds[kind{ifID, hash(shape(l))}]++
	}
}

// shape returns a text for the transforms of a group: groups of one shape have the same
// form of templates.
func shape(l []member) string {
	var b strings.Builder
	for _, m := range l {
		fmt.Fprintf(&b, "%v %v;", m.id.Proto, m.mode)
	}
	return b.String()
}

// reqID returns the reqid of the states in one place of all groups of a class and
// shape.
func (k class) reqID(shape string, place int) uint32 {
	p := k.policy
	if p.Proto != 0 || p.SrcPort != 0 || p.DstPort != 0 {
		return hash(p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort, shape, place) | 1
	}
	return hash(p.Src, p.Dst, shape, place) | 1
}

func hash(of ...any) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, of...)
	return h.Sum32()
}

// usualShape is that of most groups, tun and esp. Its packets need no mark to
// distinguish them from others.
const usualShape = "esp tunnel;"

// markMask is the part of packets' marks that this package uses.
const markMask = 0xff000000

// shapeMark returns the mark for packets from groups of a shape, for policies that need
// it to distinguish them; never 0.
func shapeMark(shape string) nlxfrm.Mark {
	if !strings.Contains(shape, nlxfrm.ModeTunnel.String()) {
		shape = "ends" + shape // this prefix gives the usual shapes different marks
	}
	return hashMark(hash(shape))
}

func hashMark(h uint32) nlxfrm.Mark { return nlxfrm.Mark{Value: (h%255 + 1) << 24, Mask: markMask} }

// Priorities of inbound policies, in order: for packets that have another tunnel to
// come out of, by mark, for packets that may come in clear, the others, and for the
// rest of a flow. Within one of these, narrower selectors come first.
const (
	nestedPriority   = 1 << 20
	markedPriority   = nestedPriority + 1<<10
	exemptPriority   = markedPriority + 1<<10
	unmarkedPriority = exemptPriority + 1<<10
	refusePriority   = unmarkedPriority + 1<<10
)

// width is smaller for narrower selectors, and below 1<<10.
func width(s klips.Selector) uint32 {
	n := 256 + 8 + 16 + 16 - s.Src.Bits() - s.Dst.Bits()
	if s.Proto != 0 {
		n -= 8
	}
	if s.SrcPort != 0 {
		n -= 16
	}
	if s.DstPort != 0 {
		n -= 16
	}
	return uint32(n)
}

// sorted returns the classes in order.
func (c classes) sorted() []class {
	l := slices.Collect(maps.Keys(c))
	arrange.Sort(l, class.compare)
	return l
}

// compile makes the inbound policies: one for each shape of a class. Without them the
// kernel drops packets that come out of tunnels, and lets in clear packets of a flow
// with an inbound policy.
//
// A policy requires the SAs that a packet has come through, and selects packets only by
// selector. If it would select wrong packets, those of another shape or clear ones
// without an interface ID, the states set a mark on the packets that come out of them.
//
// If not all groups were read, those that were must be the only ones of their inbound
// policy.
func (c classes) compile(t *tables, o *objects) error {
	all := o.tally.plus(t.rest)
	for _, k := range c.sorted() {
		if t.near && k.admits() {
			return errFar
		}
		groups := c[k]
		shapes := map[string][][]member{}
		for _, l := range groups {
			shapes[shape(l)] = append(shapes[shape(l)], l)
		}
		several := len(shapes) > 1
		if !k.admits() {
			several = all.shapes(k.ifID) > 1
		}
		marks := map[nlxfrm.Mark]string{}
		for name, l := range shapes {
			var m nlxfrm.Mark
			if k.ifID == 0 && !k.admits() || several && name != usualShape {
				m = shapeMark(name)
				if marks[m] != "" || t.near && t.rest.marks(k.ifID, hash(name), m) {
					return fault("", l[0][0].id, klips.FaultGroupsAlike, "")
				}
				marks[m] = name
			}
			alone := len(l) == 1 && (k.admits() || t.rest.kinds[kind{k.ifID, hash(name)}] == 0)
			if err := k.compile(name, l, alone, m, t.near, o); err != nil {
				return err
			}
		}
	}
	for _, k := range c.sorted() {
		if k.admits() {
			k.refuseClear(c[k], o)
		}
	}
	return nil
}

// compare orders classes, so that the same tables give the same objects.
func (k class) compare(other class) int {
	return cmp.Or(cmp.Compare(k.ifID, other.ifID), cmp.Compare(k.policy.String(), other.policy.String()))
}

// compile makes the policies for groups of one shape, and marks their states. alone:
// there is only one such group.
func (k class) compile(shape string, groups [][]member, alone bool, by nlxfrm.Mark, near bool, o *objects) error {
	first := groups[0]
	var ts []nlxfrm.Template
	for i, m := range first {
		tm := k.template(shape, i, m)
		if alone {
			tm.SPI = m.state.SPI
			if m.tun != nil {
				tm.Src, tm.Dst = m.src, m.id.Dst
			}
		}
		ts = append(ts, tm)
	}
	priority := uint32(unmarkedPriority)
	if by != (nlxfrm.Mark{}) {
		priority = markedPriority
		for _, l := range groups {
			for _, m := range l {
				o.states[m.state.ID].OutputMark = by
			}
		}
	}
	flows := []klips.Selector{k.policy}
	if !k.admits() {
		any4, any6 := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		flows = []klips.Selector{{Src: any4, Dst: any4}, {Src: any6, Dst: any6}}
	}
	for _, dir := range inboundDirs {
		for _, f := range flows {
			p := &nlxfrm.Policy{
				Selector: selectorOf(f), Dir: dir, IfID: k.ifID, Mark: by, Priority: priority + width(f),
				Limits: nlxfrm.Limits{HardPackets: mark}, Templates: slices.Clone(ts),
			}
			o.add(p)
			if !k.admits() {
				o.kinds[p.Key()] = kind{k.ifID, hash(shape)}
			}
		}
	}
	if k.ifID == 0 {
		return nil
	}
	for _, l := range groups {
		if near && nested(l) {
			return errFar // another group may have the same policy
		}
		if err := k.compileNested(shape, l, o); err != nil {
			return err
		}
	}
	return nil
}

// nested reports whether a group has more than one tunnel.
func nested(l []member) bool {
	n := 0
	for _, m := range l {
		if m.tun != nil {
			n++
		}
	}
	return n > 1
}

// compileNested makes the policies for a group of nested tunnels: an xfrm interface
// checks what comes out of each tunnel, not only of the last.
func (k class) compileNested(shape string, l []member, o *objects) error {
	inner := -1 // the preceding tunnel
	for i, m := range l {
		if m.tun == nil {
			continue
		}
		if inner >= 0 {
			if err := k.compilePassage(shape, l, inner, i, o); err != nil {
				return err
			}
		}
		inner = i
	}
	return nil
}

// compilePassage makes the policy for packets from the tunnel at outer: its selector is
// the ends of the next tunnel, and its templates begin with the outermost SA.
func (k class) compilePassage(shape string, l []member, inner, outer int, o *objects) error {
	next := l[inner]
	p := &nlxfrm.Policy{
		Selector: normal(nlxfrm.Selector{Src: host(next.src), Dst: host(next.id.Dst), Proto: uint8(l[outer-1].id.Proto)}),
		Dir:      nlxfrm.DirIn, IfID: k.ifID, Priority: nestedPriority, Limits: nlxfrm.Limits{HardPackets: mark},
	}
	if next.src.IsUnspecified() {
		p.Selector.Src = netip.PrefixFrom(next.src, 0)
	}
	for i := outer; i < len(l); i++ {
		p.Templates = append(p.Templates, k.template(shape, i, l[i]))
	}
	if other := o.policies[p.Key()]; other != nil && !slices.Equal(other.Templates, p.Templates) {
		return inexpressible(next.id, "this kernel cannot tell its packets from those of another group while they are in a tunnel")
	}
	o.add(p)
	return nil
}

// template returns the template for the states in one place of a class's groups of a
// shape.
func (k class) template(shape string, place int, m member) nlxfrm.Template {
	return nlxfrm.Template{
		ID: nlxfrm.ID{Proto: m.state.Proto}, Family: m.state.Family, ReqID: k.reqID(shape, place), Mode: m.mode,
		// Small packets come uncompressed (RFC 3173 section 2.2).
		Optional: m.id.Proto == klips.ProtoComp,
	}
}

// inboundDirs are the directions of packets to the host itself and of packets that it
// forwards.
var inboundDirs = [...]nlxfrm.Dir{nlxfrm.DirIn, nlxfrm.DirFwd}

// compileRoute makes the policies of an eroute.
func (t *tables) compileRoute(r *route, bound bindings, o *objects) error {
	if len(r.Also) > 0 {
		o.add(alsoPolicy(r)) // before the eroute, see route.take
	}
	p := nlxfrm.Policy{Selector: selectorOf(r.Selector), Dir: nlxfrm.DirOut, Priority: priority(r.Selector), Action: nlxfrm.Block, IfID: parkRoutes}
	labelRoute(&p, &r.Eroute)
	ids := t.ifIDs()
	if r.ID.IsMagic() {
		if err := t.compileShunt(&p, r); err != nil {
			return err
		}
	} else if s := t.sas[r.ID]; s != nil && s.dir == klips.Inbound {
		// Both ends often use the same script. This eroute is for the other end: no
		// such packet is sent from here.
		ids = nil
	} else if s == nil {
		if r.ID.Proto != klips.ProtoTun && !slices.Contains(ids, 0) {
			ids = append(ids, 0) // as below
		}
	} else {
		l, err := layout(s.group())
		if err != nil {
			return err
		}
		ts, err := o.templates(r, s, l)
		if err != nil {
			return err
		}
		if bound.shares(t, r) {
			for i := range ts {
				ts[i].SPI = 0
			}
		}
		if ts != nil {
			p.Action, p.Templates = nlxfrm.Allow, ts
		}
		if id, ok := t.ifIDOf(s, l); ok {
			ids = []uint32{id}
		} else if !tunnels(l) {
			// Packets in transport mode are routed as without IPsec, so none of our
			// devices has them. Without protection they are dropped on whatever route.
			p.Action, p.Templates, ids = nlxfrm.Block, nil, []uint32{0}
		}
	}
	if len(ids) == 0 {
		parked := p
		parked.Action, parked.Templates = nlxfrm.Block, nil
		o.add(&parked)
	}
	for _, id := range ids {
		q := p
		q.IfID = id
		o.add(&q)
	}
	return nil
}

// ifIDs returns the interface IDs of the attached devices.
func (t *tables) ifIDs() []uint32 {
	var ids []uint32
	for _, d := range t.devices {
		if !slices.Contains(ids, d.ifID) {
			ids = append(ids, d.ifID)
		}
	}
	return ids
}

// compileShunt makes the policy of a shunt.
func (t *tables) compileShunt(p *nlxfrm.Policy, r *route) error {
	fail := func(reason string) error {
		return refuse("", r.ID.String(), syscall.EOPNOTSUPP, reason)
	}
	switch r.ID.SPI {
	case klips.SPIDrop:
	case klips.SPIPass:
		if t.interfaces() {
			return fail("this kernel sends nothing in clear that was routed into an xfrm interface: route these packets past it instead (ip route add … dev …)")
		}
		p.Action = nlxfrm.Allow
	case klips.SPIReject:
		if !t.interfaces() {
			return fail("without xfrm interfaces (CONFIG_XFRM_INTERFACE) this kernel drops but does not reject: use %drop, or reject with a packet filter")
		}
		// An xfrm interface answers a packet without a state with host unreachable.
		p.Action = nlxfrm.Allow
	case klips.SPITrap, klips.SPITrapSubnet:
		// No state has this reqid, so the kernel asks key daemons for one.
		p.Action = nlxfrm.Allow
		p.Templates = []nlxfrm.Template{{ID: nlxfrm.ID{Proto: uint8(klips.ProtoESP)}, Family: p.Selector.Family, ReqID: parkRoutes}}
	default:
		return fail("this kernel keeps no packet until an eroute is replaced: use %drop or %trap")
	}
	return nil
}

// templates returns the templates for an eroute's packets; nil if a tun SA has no group
// yet.
func (o *objects) templates(r *route, s *sa, l []member) ([]nlxfrm.Template, error) {
	inside := map[*sa]bool{} // those inside the SA of the eroute
	for i := s.inner; i != nil; i = i.inner {
		inside[i] = true
	}
	var ts []nlxfrm.Template
	for _, m := range l {
		if inside[m.sa] {
			continue
		}
		if m.tun != nil && inside[m.tun] {
			return nil, inexpressible(s.id, "this kernel cannot leave the tunnel %v of its group out: the eroute %v has to name that", m.tun.id, r.Selector)
		}
		// The reqid of an SA that also receives is that of its inbound policy.
		tm := nlxfrm.Template{ID: m.state.ID, Family: m.state.Family, ReqID: o.states[m.state.ID].ReqID, Mode: m.mode}
		if m.mode == nlxfrm.ModeTunnel {
			tm.Src = m.src
		} else {
			tm.Dst = netip.Addr{} // the packet's own address
		}
		ts = append(ts, tm)
	}
	return ts, nil
}

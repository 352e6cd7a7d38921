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
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// objects are what lies in the kernel, or should.
type objects struct {
	states   map[nlxfrm.ID]*nlxfrm.State
	made     map[nlxfrm.ID]bool // those of states that are to be made, whatever is there
	policies map[nlxfrm.PolicyKey]*nlxfrm.Policy
	order    []nlxfrm.PolicyKey // of the policies: records by age
}

func newObjects() *objects {
	return &objects{states: map[nlxfrm.ID]*nlxfrm.State{}, made: map[nlxfrm.ID]bool{}, policies: map[nlxfrm.PolicyKey]*nlxfrm.Policy{}}
}

func (o *objects) add(p *nlxfrm.Policy) {
	for i := range p.Templates {
		p.Templates[i] = normalTemplate(p.Templates[i])
	}
	o.policies[p.Key()] = p
	o.order = append(o.order, p.Key())
}

// normalTemplate gives a template the form in which the kernel shows it.
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

// A member is an SA of a group that has a state.
type member struct {
	*sa
	mode nlxfrm.Mode
	src  netip.Addr // of the outer header
	tun  *sa        // the tun SA that it is in tunnel mode for
}

// inexpressible is a refusal of what KLIPS can do and the kernel cannot.
func inexpressible(id klips.SAID, format string, args ...any) error {
	return refuse("", id.String(), syscall.EOPNOTSUPP, fmt.Sprintf(format, args...)+"; stack user can do it")
}

// layout says how the kernel does what a group does; a tun SA alone is nothing.
func layout(group []*sa) ([]member, error) {
	var l []member
	var tun *sa
	for _, s := range group {
		if s.id.Proto == klips.ProtoTun {
			if tun != nil {
				return nil, inexpressible(tun.id, "this kernel makes no tunnel of a tun SA alone: an esp or ah SA must follow it")
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
			case m.src.IsUnspecified() && s.dir == klips.Outbound:
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
		return nil, inexpressible(tun.id, "this kernel makes no tunnel of a tun SA alone: an esp or ah SA must follow it in the group (name all members in one command)")
	}
	if len(l) > nlxfrm.MaxTemplates {
		return nil, inexpressible(group[0].id, "this kernel takes %d SAs with keys in a group, this would have %d", nlxfrm.MaxTemplates, len(l))
	}
	return l, nil
}

// compile works out what the kernel must have for the tables. An error says what
// it cannot have. It gives eroutes their priorities.
func (t *tables) compile() (*objects, error) {
	o := newObjects()
	in := classes{}
	for _, s := range t.byAge() {
		o.add(s.record())
		if s.inner != nil {
			continue
		}
		l, err := layout(s.outwards())
		if err != nil {
			return nil, err
		}
		ifID, attached := t.ifIDOf(s, l)
		p := inbound(l)
		for _, m := range l {
			o.states[m.state.ID] = m.wanted(ifID, attached, p)
			o.made[m.state.ID] = m.made
		}
		if s.dir == klips.Inbound && attached && (tunnels(l) || p != nil) {
			in.add(ifID, l, o)
		}
	}
	if err := in.compile(o); err != nil {
		return nil, err
	}
	t.prioritise()
	for _, r := range t.routesByAge() {
		if err := t.compileRoute(r, o); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// byAge are all SAs, oldest first.
func (t *tables) byAge() []*sa {
	return slices.SortedFunc(maps.Values(t.sas), func(a, b *sa) int { return cmp.Compare(a.age, b.age) })
}

// routesByAge are all eroutes, oldest first: the kernel keeps the order in which
// it gets them.
func (t *tables) routesByAge() []*route {
	return slices.SortedFunc(maps.Values(t.routes), func(a, b *route) int { return cmp.Compare(a.age, b.age) })
}

// tunnels reports whether packets go through a tunnel.
func tunnels(l []member) bool {
	return slices.ContainsFunc(l, func(m member) bool { return m.tun != nil })
}

// ifIDOf is the interface ID of a group's states and policies; attached is
// false where there is no device.
//
// Transport mode is not for devices: what is sent has the route that the packet
// had before, and if that leads into an xfrm interface it is a loop. So its
// policies are for packets that are routed as if there was no IPsec.
func (t *tables) ifIDOf(s *sa, l []member) (id uint32, attached bool) {
	d, attached := t.deviceOf(s)
	if !tunnels(l) {
		return 0, attached
	}
	return d.ifID, attached
}

// deviceOf is the device that a group's packets go through: the one that an SA
// names, the one on the physical device that has the group's local address, or
// the first.
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

// wanted is the state that a member needs. Keys are shared with the state that
// is there.
//
// The kernel holds what comes out of a group against the selectors of all its states
// before it looks at policies. A state in transport mode has the selector of the
// group if it has none of its own: an IPComp state is passed by where a packet came
// uncompressed, and its selector with it.
func (m *member) wanted(ifID uint32, attached bool, group *klips.InboundPolicy) *nlxfrm.State {
	s := *m.state
	s.Mode, s.Src = m.mode, m.src
	s.ReqID = s.SPI
	s.Selector, s.OutputMark = nlxfrm.Selector{}, nlxfrm.Mark{}
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

// inbound is the inbound policy of a member: that of the tun SA that it is in tunnel
// mode for, or its own.
func (m *member) inbound() *klips.InboundPolicy {
	switch {
	case m.dir == klips.Outbound:
		return nil
	case m.tun != nil && m.tun.policy != nil:
		return m.tun.policy
	}
	return m.policy
}

// inbound is the inbound policy of a group: of nested tunnels the innermost one's
// decides, because the kernel looks at the packet that has come out of all.
func inbound(l []member) *klips.InboundPolicy {
	for _, m := range l {
		if p := m.inbound(); p != nil || m.tun != nil {
			return p
		}
	}
	return nil
}

// classes are inbound groups that the kernel cannot tell apart by where they come
// out or what they carry: those of one device with the same inbound policy.
type classes map[class][][]member

type class struct {
	ifID   uint32
	policy klips.InboundPolicy // the zero Selector for none
}

// admits reports whether there is an inbound policy.
func (k class) admits() bool { return k.policy.Src.IsValid() }

// add enters a group and gives its states the number by which policies know
// them.
func (c classes) add(ifID uint32, l []member, o *objects) {
	k := class{ifID: ifID}
	if p := inbound(l); p != nil {
		k.policy = *p
	}
	c[k] = append(c[k], l)
	for i, m := range l {
		o.states[m.state.ID].ReqID = k.reqID(shape(l), i)
	}
}

// shape is what a group does: groups of one shape have templates of one form.
func shape(l []member) string {
	var b strings.Builder
	for _, m := range l {
		fmt.Fprintf(&b, "%v %v;", m.id.Proto, m.mode)
	}
	return b.String()
}

// reqID is the number that the states in one place of all groups of a class and
// shape have.
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

// usualShape is that of most groups, tun and esp. It needs no mark beside others.
const usualShape = "esp tunnel;"

// markMask is the part of packets' marks that is ours.
const markMask = 0xff000000

// shapeMark is the mark of packets that come out of groups of a shape, where a
// policy has to know them by it; never 0.
func shapeMark(shape string) nlxfrm.Mark {
	if !strings.Contains(shape, nlxfrm.ModeTunnel.String()) {
		shape = "ends" + shape // with this the usual ones have different marks
	}
	return nlxfrm.Mark{Value: (hash(shape)%255 + 1) << 24, Mask: markMask}
}

// Priorities of policies for what comes in: those for what is still to come out
// of another tunnel, those by a mark, those for what may come in clear, the rest,
// and those for all else of a flow. Among the same narrower ones come first.
const (
	nestedPriority   = 1 << 20
	markedPriority   = nestedPriority + 1<<10
	exemptPriority   = markedPriority + 1<<10
	unmarkedPriority = exemptPriority + 1<<10
	refusePriority   = unmarkedPriority + 1<<10
)

// width is less for narrower selectors. It is below 1<<10.
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

// compile makes the policies without which the kernel drops what comes out of
// tunnels, and lets in clear what is to come out of a group with an inbound policy:
// one for each shape of a class.
//
// A policy says which SAs a packet must have come through, and selectors are all
// that it looks at. Where it would then ask the wrong packets, those of another
// shape or, without interface IDs, clear ones, the states put a mark on what comes
// out of them.
func (c classes) compile(o *objects) error {
	for _, k := range slices.SortedFunc(maps.Keys(c), class.compare) {
		groups := c[k]
		shapes := map[string][][]member{}
		for _, l := range groups {
			shapes[shape(l)] = append(shapes[shape(l)], l)
		}
		marks := map[nlxfrm.Mark]string{}
		for name, l := range shapes {
			var m nlxfrm.Mark
			if k.ifID == 0 && !k.admits() || len(shapes) > 1 && name != usualShape {
				m = shapeMark(name)
				if marks[m] != "" {
					return fault("", l[0][0].id, klips.FaultGroupsAlike, "")
				}
				marks[m] = name
			}
			if err := k.compile(name, l, m, o); err != nil {
				return err
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(c), class.compare) {
		if k.admits() {
			k.refuseClear(c[k], o)
		}
	}
	return nil
}

// compare is an order of classes, so that the same tables make the same objects.
func (k class) compare(other class) int {
	return cmp.Or(cmp.Compare(k.ifID, other.ifID), cmp.Compare(k.policy.String(), other.policy.String()))
}

// compile makes the policies of groups of one shape and marks their states.
func (k class) compile(shape string, groups [][]member, by nlxfrm.Mark, o *objects) error {
	first := groups[0]
	var ts []nlxfrm.Template
	for i, m := range first {
		tm := k.template(shape, i, m)
		if len(groups) == 1 {
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
		flows = []klips.Selector{{Src: any4, Dst: any4}, {Src: any6, Dst: any6}}
	}
	for _, dir := range inboundDirs {
		for _, f := range flows {
			o.add(&nlxfrm.Policy{
				Selector: selectorOf(f), Dir: dir, IfID: k.ifID, Mark: by, Priority: priority + width(f),
				Limits: nlxfrm.Limits{HardPackets: mark}, Templates: slices.Clone(ts),
			})
		}
	}
	if k.ifID == 0 {
		return nil
	}
	for _, l := range groups {
		if err := k.compileNested(shape, l, o); err != nil {
			return err
		}
	}
	return nil
}

// compileNested makes the policies for a group of tunnels in tunnels: an xfrm
// interface looks at what comes out of each, not only of the last.
func (k class) compileNested(shape string, l []member, o *objects) error {
	inner := -1 // the tunnel before
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

// compilePassage makes the policy for what comes out of the tunnel at outer: it
// has the ends of the next tunnel, and goes by its outermost SA first.
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

// template is what a policy asks of the states in one place of groups of a class
// and shape.
func (k class) template(shape string, place int, m member) nlxfrm.Template {
	return nlxfrm.Template{
		ID: nlxfrm.ID{Proto: m.state.Proto}, Family: m.state.Family, ReqID: k.reqID(shape, place), Mode: m.mode,
		// Small packets come uncompressed (RFC 3173 section 2.2).
		Optional: m.id.Proto == klips.ProtoComp,
	}
}

// inboundDirs are the directions of packets to the host itself and of those that it
// forwards.
var inboundDirs = [...]nlxfrm.Dir{nlxfrm.DirIn, nlxfrm.DirFwd}

var (
	any4 = netip.MustParsePrefix("0.0.0.0/0")
	any6 = netip.MustParsePrefix("::/0")
)

// compileRoute makes the policies of an eroute.
func (t *tables) compileRoute(r *route, o *objects) error {
	p := nlxfrm.Policy{Selector: selectorOf(r.Selector), Dir: nlxfrm.DirOut, Priority: r.priority, Action: nlxfrm.Block, IfID: parkRoutes}
	labelRoute(&p, &r.Eroute)
	ids := t.ifIDs()
	if r.ID.IsMagic() {
		if err := t.compileMagic(&p, r); err != nil {
			return err
		}
	} else if s := t.sas[r.ID]; s != nil && s.dir == klips.Inbound {
		// Scripts are often the same at both ends. This eroute is the other one's:
		// no packet of it is sent from here.
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
		ts, err := templates(r, s, l)
		if err != nil {
			return err
		}
		if ts != nil {
			p.Action, p.Templates = nlxfrm.Allow, ts
		}
		if id, ok := t.ifIDOf(s, l); ok {
			ids = []uint32{id}
		} else if !tunnels(l) {
			// Packets in transport mode are routed as without IPsec, so that no device
			// of ours has them: what is not protected is dropped by whatever route.
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

// ifIDs are those of the attached devices.
func (t *tables) ifIDs() []uint32 {
	var ids []uint32
	for _, d := range t.devices {
		if !slices.Contains(ids, d.ifID) {
			ids = append(ids, d.ifID)
		}
	}
	return ids
}

// compileMagic makes the policy of a magic SAID.
func (t *tables) compileMagic(p *nlxfrm.Policy, r *route) error {
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
		// An xfrm interface answers what it has no state for: host unreachable.
		p.Action = nlxfrm.Allow
	case klips.SPITrap, klips.SPITrapSubnet:
		// No state has this number, so the kernel asks key daemons for one.
		p.Action = nlxfrm.Allow
		p.Templates = []nlxfrm.Template{{ID: nlxfrm.ID{Proto: uint8(klips.ProtoESP)}, Family: p.Selector.Family, ReqID: parkRoutes}}
	default:
		return fail("this kernel keeps no packet until an eroute is replaced: use %drop or %trap")
	}
	return nil
}

// templates are what an eroute's packets go through; nil is nothing, where a tun
// SA still waits for its group.
func templates(r *route, s *sa, l []member) ([]nlxfrm.Template, error) {
	inside := map[*sa]bool{} // those inside the SA that the eroute names
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
		tm := nlxfrm.Template{ID: m.state.ID, Family: m.state.Family, ReqID: m.state.SPI, Mode: m.mode}
		if m.mode == nlxfrm.ModeTunnel {
			tm.Src = m.src
		} else {
			tm.Dst = netip.Addr{} // the packet's own
		}
		ts = append(ts, tm)
	}
	return ts, nil
}

package xfrm

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// Packets of a flow with an inbound policy are accepted only from their group. Those
// that arrive in clear have no interface ID and no mark, so they match policies without
// either.

// refuseClear makes the policies for clear packets of a class: some allow exempt
// packets, the others refuse all the rest.
//
// Groups in transport mode and those of dummy devices have no interface ID. Packets
// that come out of them match the same policies. So exempt packets are accepted from
// their tunnels too.
func (k class) refuseClear(groups [][]member, o *objects) {
	p := &nlxfrm.Policy{
		Selector: selectorOf(k.policy), Action: nlxfrm.Block, Priority: refusePriority + width(k.policy),
		Limits: nlxfrm.Limits{HardPackets: mark},
	}
	for _, dir := range inboundDirs {
		o.addUnless(p, dir) // a policy that requires SAs refuses clear packets too
	}
	var optional []nlxfrm.Template
	if k.ifID == 0 {
		p.Dir = nlxfrm.DirIn
		for _, t := range o.policies[p.Key()].Templates {
			if t.Mode == nlxfrm.ModeTunnel { // the kernel needs no policy for packets from transport mode
				t.Optional = true
				optional = append(optional, t)
			}
		}
	}
	let := func(sel nlxfrm.Selector, dirs ...nlxfrm.Dir) {
		p := &nlxfrm.Policy{
			Selector: normal(sel), Priority: exemptPriority + width(k.policy),
			Limits: nlxfrm.Limits{HardPackets: mark}, Templates: optional,
		}
		for _, dir := range dirs {
			o.addUnless(p, dir)
		}
	}
	for _, e := range k.exempt(groups) {
		let(e, nlxfrm.DirIn)
	}
	if far, near := k.policy.Src, k.policy.Dst; far.Bits() < near.Bits() && far.Contains(near.Addr()) {
		// The far side may be everything. Packets from the near side to itself are not
		// from the far side.
		self := k.policy
		self.Src = near
		let(selectorOf(self), inboundDirs[:]...)
	}
}

// addUnless adds a policy in one direction unless its key exists.
func (o *objects) addUnless(p *nlxfrm.Policy, dir nlxfrm.Dir) {
	q := *p
	q.Dir, q.Templates = dir, slices.Clone(p.Templates)
	if o.policies[q.Key()] == nil {
		o.add(&q)
	}
}

// exact is the mask of a single port.
const exact = 0xffff

// Packets to the host itself that a protected flow depends on. The type of an ICMP
// message is in the field of the source port. ESP, AH and IPComp need no policy: the
// kernel checks policies only after it has decapsulated them. IKE needs none either:
// IKE daemons give their sockets their own policies.
var (
	exempt4 = []nlxfrm.Selector{
		// Errors about the protected packets, such as packet too big (RFC 792; RFC 4301
		// section 6.1.1).
		{Proto: unix.IPPROTO_ICMP, SrcPort: 3, SrcPortMask: exact},
		{Proto: unix.IPPROTO_ICMP, SrcPort: 11, SrcPortMask: exact},
		{Proto: unix.IPPROTO_ICMP, SrcPort: 12, SrcPortMask: exact},
		// DHCP, from server to client (RFC 2131 section 4.1).
		{Proto: unix.IPPROTO_UDP, SrcPort: 67, SrcPortMask: exact, DstPort: 68, DstPortMask: exact},
	}
	exempt6 = []nlxfrm.Selector{
		// Errors: the types below 128 (RFC 4443 section 2.1).
		{Proto: unix.IPPROTO_ICMPV6, SrcPortMask: 0xff80},
		// Neighbour discovery: the types 133 to 137 (RFC 4861 section 4).
		{Proto: unix.IPPROTO_ICMPV6, SrcPort: 133, SrcPortMask: exact},
		{Proto: unix.IPPROTO_ICMPV6, SrcPort: 134, SrcPortMask: 0xfffe},
		{Proto: unix.IPPROTO_ICMPV6, SrcPort: 136, SrcPortMask: 0xfffe},
		// DHCP (RFC 8415 section 7.2).
		{Proto: unix.IPPROTO_UDP, SrcPort: 547, SrcPortMask: exact, DstPort: 546, DstPortMask: exact},
	}
)

// exempt returns selectors of a class's packets that may come in clear: those above
// that belong to the flow, and UDP-encapsulated ESP, because the kernel checks policies
// for the UDP packet before it decapsulates it.
func (k class) exempt(groups [][]member) (l []nlxfrm.Selector) {
	all := exempt4
	if k.policy.Is6() {
		all = exempt6
	}
	all = slices.Clone(all)
	for _, g := range groups {
		for _, m := range g {
			if e := m.state.Encap; e != nil {
				all = append(all, nlxfrm.Selector{Proto: unix.IPPROTO_UDP, DstPort: e.DstPort, DstPortMask: exact})
			}
		}
	}
	for _, e := range all {
		if !covers(k.policy, e) {
			continue
		}
		e.Src, e.Dst = k.policy.Src, k.policy.Dst
		if k.policy.SrcPort != 0 {
			e.SrcPort, e.SrcPortMask = k.policy.SrcPort, exact
		}
		l = append(l, e)
	}
	return l
}

// covers reports whether a policy applies to packets with the protocol and ports of a
// selector.
func covers(p klips.InboundPolicy, s nlxfrm.Selector) bool {
	port := func(want, port, mask uint16) bool { return want == 0 || mask == 0 || want == port }
	return (p.Proto == 0 || p.Proto == s.Proto) && port(p.SrcPort, s.SrcPort, s.SrcPortMask) && port(p.DstPort, s.DstPort, s.DstPortMask)
}

package xfrm

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// What has an inbound policy is taken through its group alone. Packets of the flow
// that come in clear have no interface ID and no mark, and meet policies without
// either.

// refuseClear makes the policies that clear packets of a class meet: those that are
// let in nevertheless, and all others, which are refused.
//
// Groups in transport mode and those of dummy devices have no interface ID. The
// packets that come out of them meet the same policies, and so what is let in clear
// is let out of their tunnels as well.
func (k class) refuseClear(groups [][]member, o *objects) {
	p := &nlxfrm.Policy{
		Selector: selectorOf(k.policy), Action: nlxfrm.Block, Priority: refusePriority + width(k.policy),
		Limits: nlxfrm.Limits{HardPackets: mark},
	}
	for _, dir := range inboundDirs {
		o.addUnless(p, dir) // a policy that asks for SAs refuses clear packets as well
	}
	var optional []nlxfrm.Template
	if k.ifID == 0 {
		p.Dir = nlxfrm.DirIn
		for _, t := range o.policies[p.Key()].Templates {
			if t.Mode == nlxfrm.ModeTunnel { // the kernel wants no policy of what was in transport mode
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
		// The far side is everything, say. What the near side sends to itself is not
		// from there.
		self := k.policy
		self.Src = near
		let(selectorOf(self), inboundDirs[:]...)
	}
}

// addUnless adds a policy in one direction unless there is one with that key.
func (o *objects) addUnless(p *nlxfrm.Policy, dir nlxfrm.Dir) {
	q := *p
	q.Dir, q.Templates = dir, slices.Clone(p.Templates)
	if o.policies[q.Key()] == nil {
		o.add(&q)
	}
}

// exact is the mask of one port.
const exact = 0xffff

// Packets to the host itself without which a protected flow does not last. The type
// of an ICMP message is in the place of the source port. ESP, AH and IPComp need no
// policy: the kernel asks none before it has opened them. Nor does IKE, whose daemons
// give their sockets policies of their own.
var (
	exempt4 = []nlxfrm.Selector{
		// Errors about the protected packets themselves, as those that are too long for
		// the path (RFC 792; RFC 4301 section 6.1.1).
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

// exempt are the packets of a class that may come in clear: those above as far as
// they are of the flow, and UDP with ESP in it, which the kernel does not open before
// a policy has let the UDP packet in.
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

// covers reports whether a policy is for packets with the protocol and ports of a
// selector.
func covers(p klips.InboundPolicy, s nlxfrm.Selector) bool {
	port := func(want, port, mask uint16) bool { return want == 0 || mask == 0 || want == port }
	return (p.Proto == 0 || p.Proto == s.Proto) && port(p.SrcPort, s.SrcPort, s.SrcPortMask) && port(p.DstPort, s.DstPort, s.DstPortMask)
}

package guard

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// The names of objects in the table, as nft list table inet klips shows them.
const (
	tableName  = "klips"
	chainOut   = "out"
	chainIn    = "in"
	counterOut = "unprotected-out"
	counterIn  = "unprotected-in"
	setPeers4  = "peers4"
	setPeers6  = "peers6"
	setPorts   = "ports"
	// The protocols that protect: ESP, AH, IPComp.
	setProtected = "protected"
	setBoth      = "tcp-udp"
)

// A change is a batch of requests that makes the table.
type change struct {
	c     *nftables.Conn
	table *nftables.Table
	peers map[bool]*nftables.Set
	// ports and protocols
	ports, protected *nftables.Set
	both             *nftables.Set // TCP and UDP; nil: no rule has needed it yet
	heard            map[bool]*nftables.Set
	unheard          *nftables.Set
	rules            int // how many there are so far
	err              error
}

// elementsPerMessage keeps the elements of one request within the 64 KiB of an
// attribute. An element has at most 80 bytes.
const elementsPerMessage = 500

// set makes a set with elements.
func (g *change) set(name string, key nftables.SetDatatype, concat bool, keys [][]byte) *nftables.Set {
	s := &nftables.Set{Table: g.table, Name: name, KeyType: key, Concatenation: concat}
	g.try(g.c.AddSet(s, nil))
	for part := range slices.Chunk(keys, elementsPerMessage) {
		elements := make([]nftables.SetElement, len(part))
		for i, k := range part {
			elements[i].Key = k
		}
		g.try(g.c.SetAddElements(s, elements))
	}
	return s
}

func (g *change) try(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *change) chain(name string) *nftables.Chain {
	return g.c.AddChain(&nftables.Chain{Table: g.table, Name: name})
}

func (g *change) rule(c *nftables.Chain, parts ...match) {
	g.rules++
	g.c.AddRule(&nftables.Rule{Table: g.table, Chain: c, Exprs: slices.Concat(parts...)})
}

func verdict(kind expr.VerdictKind, chain string) match {
	return match{&expr.Verdict{Kind: kind, Chain: chain}}
}

var accept = verdict(expr.VerdictAccept, "")

// families are IPv4 and IPv6, as is6.
var families = [...]bool{false, true}

func ipVersion(is6 bool) string {
	if is6 {
		return "6"
	}
	return "4"
}

// sets makes the sets that the rules for flows look up.
func (g *change) sets(r Rules) {
	g.peers = map[bool]*nftables.Set{}
	for _, is6 := range families {
		name, kind := setPeers4, nftables.TypeIPAddr
		if is6 {
			name, kind = setPeers6, nftables.TypeIP6Addr
		}
		var keys [][]byte
		for _, a := range r.Peers {
			if a.Is6() == is6 {
				keys = append(keys, a.AsSlice())
			}
		}
		g.peers[is6] = g.set(name, kind, false, keys)
	}
	ports := make([][]byte, 0, len(r.Ports))
	for _, p := range r.Ports {
		ports = append(ports, portKey(p))
	}
	g.ports = g.set(setPorts, nftables.TypeInetService, false, ports)

	g.protected = g.set(setProtected, nftables.TypeInetProto, false, [][]byte{{unix.IPPROTO_ESP}, {unix.IPPROTO_AH}, {unix.IPPROTO_COMP}})
}

// build makes all of the table except its counters.
func (g *change) build(r Rules) {
	if r.Closes() {
		g.sets(r)
	}
	came := accept // packets that came protected
	if r.Hide {
		came = g.hear()
	}
	order, sets := group(r.Flows)
	hooks := [...]struct {
		name     string
		in       bool
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
	}{
		// Before the source of packets is changed (NAT), which happens later in this
		// hook.
		{chainOut, false, nftables.ChainHookPostrouting, nftables.ChainPriorityFilter},
		// After fragments are reassembled, and before any other hook.
		{chainIn, true, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw},
	}
	for _, h := range hooks {
		// A rule can only name existing chains, so inner chains are made first.
		has := map[bool]bool{} // the chain has rules
		for _, is6 := range families {
			name := h.name + ipVersion(is6)
			flows := g.chain(name)
			has[is6] = r.Closes() || r.Hide && !h.in
			if r.Hide && !h.in {
				g.hide(flows, is6)
			}
			if !r.Closes() {
				continue
			}
			own, refuse := g.chain("own-"+name), g.chain("refuse-"+name)
			g.own(own, h.in, is6)
			g.refuse(refuse, own, h.in, is6)
			for _, s := range order {
				if s.in == h.in && s.is6 == is6 {
					g.flows(flows, refuse, s, sets[s])
				}
			}
		}
		base := g.c.AddChain(&nftables.Chain{Table: g.table, Name: h.name, Type: nftables.ChainTypeFilter, Hooknum: h.hook, Priority: h.priority})
		g.rule(base, device(h.in, "lo"), accept)
		protected := accept
		if h.in {
			protected = came
		}
		g.rule(base, device(h.in, "ipsec*"), protected)
		g.rule(base, kernelProtects(h.in), protected)
		for _, is6 := range families {
			if has[is6] {
				g.rule(base, family(is6), verdict(expr.VerdictGoto, h.name+ipVersion(is6)))
			}
		}
	}
}

// tcpAndUDP returns the set of these protocols.
func (g *change) tcpAndUDP() *nftables.Set {
	if g.both == nil {
		g.both = g.set(setBoth, nftables.TypeInetProto, false, [][]byte{{unix.IPPROTO_TCP}, {unix.IPPROTO_UDP}})
	}
	return g.both
}

// flows makes the rules for the flows of one shape.
func (g *change) flows(c, refuse *nftables.Chain, s shape, flows []Flow) {
	keys := make([][]byte, len(flows))
	for i, f := range flows {
		keys[i] = s.key(f.Selector)
	}
	what := accept
	if !s.pass {
		what = verdict(expr.VerdictGoto, refuse.Name)
	}
	var portful match // TCP and UDP: the first bytes of other protocols are no ports
	if !s.proto && (s.sport || s.dport) {
		portful = match{meta(expr.MetaKeyL4PROTO), among(g.tcpAndUDP())}
	}
	g.rule(c, portful, s.load(), match{among(g.set(s.String(), s.keyType(), true, keys))}, what)
	if s.pass || !s.sport && !s.dport {
		return
	}
	// Their later fragments have no ports.
	part := s
	part.sport, part.dport = false, false
	seen := map[klips.Selector]bool{}
	keys = nil
	for _, f := range flows {
		f.SrcPort, f.DstPort = 0, 0
		if !seen[f.Selector] {
			seen[f.Selector] = true
			keys = append(keys, part.key(f.Selector))
		}
	}
	g.rule(c, portful, later(s.is6), part.load(), match{among(g.set("fragments-"+s.String(), part.keyType(), true, keys))}, what)
}

// refuse makes the rules for packets of closed flows: they are dropped and counted,
// except for packets that must always pass.
func (g *change) refuse(c, own *nftables.Chain, in, is6 bool) {
	g.rule(c, localAddr(in), verdict(expr.VerdictJump, own.Name))
	if is6 {
		g.discovery(c)
	}
	name := counterOut
	if in {
		name = counterIn
	}
	g.rule(c, dropCounted(name))
}

func dropCounted(counter string) match {
	return match{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// own makes the rules for packets to or from this host's own addresses, which the stack
// itself or a key daemon sends and receives.
func (g *change) own(c *nftables.Chain, in, is6 bool) {
	fromPeer := match{fromNet(reg, addrOffset(is6, !in), addrLen(is6)), among(g.peers[is6])}
	secured := match{meta(expr.MetaKeyL4PROTO), among(g.protected)}
	if in { // from anywhere: the SA authenticates the sender, and a NAT can give the peer another address
		g.rule(c, secured, accept)
		g.rule(c, proto(unix.IPPROTO_UDP), match{fromTransport(reg, 2, 2), among(g.ports)}, accept)
		g.rule(c, proto(unix.IPPROTO_UDP), later(is6), fromPeer, accept)
	} else {
		g.rule(c, secured, fromPeer, accept)
		g.rule(c, proto(unix.IPPROTO_UDP), match{fromTransport(reg, 0, 2), among(g.ports)}, fromPeer, accept)
	}
	g.dhcp(c, in, is6)
	g.errors(c, in, is6)
}

// dhcp allows this host to get its address (RFC 2131 section 4.1, RFC 8415 section
// 7.2).
func (g *change) dhcp(c *nftables.Chain, in, is6 bool) {
	client, server := uint16(68), uint16(67)
	if is6 {
		client, server = 546, 547
	}
	src, dst := client, server
	if in {
		src, dst = server, client
	}
	g.rule(c, proto(unix.IPPROTO_UDP), match{fromTransport(reg, 0, 4), equal(append(portKey(src), portKey(dst)...)...)}, accept)
}

// errors allows ICMP errors about protected packets: inbound errors about packets from
// this host to a peer, and outbound errors about packets from a peer.
func (g *change) errors(c *nftables.Chain, in, is6 bool) {
	icmp, types := byte(unix.IPPROTO_ICMP), []byte{3, 11, 12} // unreachable, time exceeded, parameter problem
	if is6 {
		icmp, types = unix.IPPROTO_ICMPV6, []byte{1, 2, 3, 4} // and too big
	}
	about := match{quoted(is6, in), among(g.peers[is6])}
	for _, t := range types {
		head := append(proto(icmp), fromTransport(reg, 0, 1), equal(t))
		g.rule(c, head, match{quotedProto(is6), among(g.protected)}, about, accept)
		// This host's port is the source port of what it sent.
		g.rule(c, head, match{quotedProto(is6), equal(unix.IPPROTO_UDP)}, match{quotedPort(is6, !in), among(g.ports)}, about, accept)
	}
}

// discovery allows packets that an IPv6 link needs: router and neighbour discovery (RFC
// 4861; its hop limit 255 shows that no router has forwarded it), and multicast
// listener reports, without which switches do not forward multicast.
func (g *change) discovery(c *nftables.Chain) {
	hops := match{fromNet(reg, 7, 1), equal(255)}
	for t := byte(133); t <= 137; t++ {
		g.rule(c, proto(unix.IPPROTO_ICMPV6), match{fromTransport(reg, 0, 1), equal(t)}, hops, accept)
	}
	once := match{fromNet(reg, 7, 1), equal(1)}
	for _, t := range [...]byte{130, 131, 132, 143} {
		g.rule(c, proto(unix.IPPROTO_ICMPV6), match{fromTransport(reg, 0, 1), equal(t)}, once, accept)
	}
}

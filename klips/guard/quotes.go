package guard

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The names of objects for ICMP errors about packets that came protected.
const (
	counterQuotes = "quotes-out"
	// Sources of packets that came protected.
	setHeard4 = "heard4"
	setHeard6 = "heard6"
	// The versions of IP with more of these sources than their set has room for.
	setUnheard = "unheard"
)

// heardTime is how long the sources are remembered. An ICMP error comes at most a
// minute after the packet that it quotes: when fragments are missing (RFC 8200 section
// 4.5).
const heardTime = 2 * time.Minute

// maxHeard limits the memory of one set to a few MiB.
const maxHeard = 1 << 16

// isHeard reports whether a set has what packets have put into it.
func isHeard(name string) bool {
	return name == setHeard4 || name == setHeard6 || name == setUnheard
}

// remembering makes a set that packets add elements to. If it exists, it keeps them.
func (g *change) remembering(name string, key nftables.SetDatatype, size uint32) *nftables.Set {
	s := &nftables.Set{
		Table: g.table, Name: name, KeyType: key,
		Dynamic: true, HasTimeout: true, Timeout: heardTime, Size: size,
	}
	g.try(g.c.AddSet(s, nil))
	return s
}

// remember adds the loaded value to a set, or makes it stay there longer. If the set is
// full, the rule ends.
func remember(s *nftables.Set) expr.Any {
	return &expr.Dynset{SrcRegKey: reg, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE}
}

// hear makes the chain for packets that came protected: it remembers their sources.
func (g *change) hear() match {
	g.heard = map[bool]*nftables.Set{
		false: g.remembering(setHeard4, nftables.TypeIPAddr, maxHeard),
		true:  g.remembering(setHeard6, nftables.TypeIP6Addr, maxHeard),
	}
	g.unheard = g.remembering(setUnheard, nftables.TypeNFProto, 2)
	c := g.chain("heard")
	for _, is6 := range families {
		g.rule(c, family(is6), match{fromNet(reg, addrOffset(is6, false), addrLen(is6)), remember(g.heard[is6])}, accept)
	}
	g.rule(c, match{meta(expr.MetaKeyNFPROTO), remember(g.unheard)})
	return verdict(expr.VerdictGoto, c.Name)
}

// hide makes the rules that drop ICMP errors which quote a packet that came protected.
// What is in ESP stays secret also in a quotation.
func (g *change) hide(flows *nftables.Chain, is6 bool) {
	c := g.chain("quotes" + ipVersion(is6))
	g.rule(c, match{quotedProto(is6), equal(unix.IPPROTO_ESP)}, verdict(expr.VerdictReturn, ""))
	g.rule(c, match{quoted(is6, false), among(g.heard[is6])}, dropCounted(counterQuotes))
	g.rule(c, match{meta(expr.MetaKeyNFPROTO), among(g.unheard)}, dropCounted(counterQuotes))
	// Source quench and redirect quote a packet, too (RFC 792).
	icmp, types := byte(unix.IPPROTO_ICMP), []byte{3, 4, 5, 11, 12}
	if is6 {
		icmp, types = unix.IPPROTO_ICMPV6, []byte{1, 2, 3, 4}
	}
	e := g.chain("errors" + ipVersion(is6)) // other packets meet only one rule
	for _, t := range types {
		g.rule(e, match{fromTransport(reg, 0, 1), equal(t)}, verdict(expr.VerdictGoto, c.Name))
	}
	g.rule(flows, proto(icmp), verdict(expr.VerdictJump, e.Name))
}

package xfrm

import (
	"encoding/binary"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// Interface IDs of policies that match no packet. Our devices do not have them: they
// have small ones.
const (
	parkSAs    uint32 = 0x4b4c4950 // "KLIP"
	parkRoutes uint32 = 0x4b4c4951
)

// mark is in the high half of the hard packet limit of our policies.
const mark uint64 = 0x4b4c4950 << 32

// ours reports whether a policy was made by this package.
func ours(p *nlxfrm.Policy) bool { return p.Limits.HardPackets&^0xffffffff == mark }

// recordSelector returns the selector that names an SA's record. It is unique, and its
// prefixes have full length, so the kernel finds it by hash.
func recordSelector(id klips.SAID) nlxfrm.Selector {
	var b [16]byte
	binary.BigEndian.PutUint32(b[12:], uint32(id.SPI))
	spi := netip.AddrFrom16(b)
	if id.Dst.Is4() {
		spi = netip.AddrFrom4([4]byte(b[12:]))
	}
	return normal(nlxfrm.Selector{Dst: host(id.Dst), Src: host(spi), Proto: uint8(id.Proto)})
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// normal returns a selector in the form in which the kernel shows it.
func normal(s nlxfrm.Selector) nlxfrm.Selector {
	s.Family = family(s.Dst.Addr())
	return s
}

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return nlxfrm.FamilyIPv4
	}
	return nlxfrm.FamilyIPv6
}

// Bits in the low half of a record's hard packet limit: the direction of the SA, whether it
// copies the TOS, and whether it is a further SA of an eroute. Another is isMany.
const (
	isInbound  = 1
	servesBoth = 2
	copiesTOS  = 4
	isFurther  = 16
)

// record returns the policy with the SA's data that the kernel does not keep. Its first
// template has the SA's source, and the window if the state has none. Then come notes about
// its neighbours, its inbound policy and its eroutes, as far as it has them. A note is a
// template with its kind in the field for algorithms, which the kernel does not use here.
func (s *sa) record(u users, further bool, window uint32) *nlxfrm.Policy {
	p := &nlxfrm.Policy{
		Selector: recordSelector(s.id), Dir: nlxfrm.DirOut, Action: nlxfrm.Block, IfID: parkSAs, Priority: 1 << 31,
		Limits: nlxfrm.Limits{
			SoftBytes:   uint64(s.ref)<<32 | uint64(s.refHim),
			HardBytes:   uint64(s.soft)<<32 | uint64(s.hard),
			SoftPackets: s.added<<16 | uint64(s.outIf),
			HardPackets: mark,
		},
	}
	switch s.dir {
	case klips.Inbound:
		p.Limits.HardPackets |= isInbound
	case klips.Both:
		p.Limits.HardPackets |= servesBoth
	}
	if s.copyTOS {
		p.Limits.HardPackets |= copiesTOS
	}
	if further {
		p.Limits.HardPackets |= isFurther
	}
	p.Templates = append(p.Templates, note(noteSelf, s.id, s.src, window))
	if s.outer != nil {
		p.Templates = append(p.Templates, note(noteOuter, s.outer.id, netip.Addr{}, 0))
	}
	if s.inner != nil {
		p.Templates = append(p.Templates, note(noteInner, s.inner.id, netip.Addr{}, 0))
	}
	if s.policy != nil {
		p.Templates = append(p.Templates, noteSelector(notePolicy, *s.policy))
	}
	u.note(p)
	return p
}

// Kinds of notes.
const (
	noteSelf = 1 + iota
	noteOuter
	notePolicy
	noteInner
)

// note makes a template that holds data. The kernel requires an IPsec protocol in it,
// so the SAID's own protocol is in another field.
func note(kind uint32, id klips.SAID, src netip.Addr, bits uint32) nlxfrm.Template {
	return nlxfrm.Template{
		ID:  nlxfrm.ID{Dst: id.Dst, SPI: uint32(id.SPI), Proto: uint8(klips.ProtoESP)},
		Src: src, Family: family(id.Dst), ReqID: uint32(id.Proto), Mode: nlxfrm.ModeTunnel,
		AuthAlgs: kind, CryptAlgs: bits, CompAlgs: 1,
	}
}

// noteSelector makes the note of an inbound policy or eroute. The ports are in the field
// that holds the protocol of a SAID in other notes.
func noteSelector(kind uint32, p klips.Selector) nlxfrm.Template {
	bits := uint32(p.Proto)<<16 | uint32(p.Src.Bits())<<8 | uint32(p.Dst.Bits())
	t := note(kind, klips.SAID{Dst: p.Dst.Addr(), SPI: klips.MinSPI}, p.Src.Addr(), bits)
	t.ReqID = uint32(p.SrcPort)<<16 | uint32(p.DstPort)
	return t
}

func readSelector(t *nlxfrm.Template) klips.Selector {
	return klips.Selector{
		Src: netip.PrefixFrom(t.Src, int(t.CryptAlgs>>8&0xff)), Dst: netip.PrefixFrom(t.Dst, int(t.CryptAlgs&0xff)),
		Proto: uint8(t.CryptAlgs >> 16), SrcPort: uint16(t.ReqID >> 16), DstPort: uint16(t.ReqID),
	}
}

// readRecord is the opposite of record; ok is false for other policies. The SA has no
// state yet, and outer is the name of its neighbour, the zero SAID for none.
func readRecord(p *nlxfrm.Policy) (s *sa, outer klips.SAID, ok bool) {
	sel := p.Selector
	if !ours(p) || p.IfID != parkSAs || !sel.Dst.IsSingleIP() || !sel.Src.IsSingleIP() {
		return nil, outer, false
	}
	spi := sel.Src.Addr().AsSlice()
	l := p.Limits
	s = &sa{
		id:  klips.SAID{Dst: sel.Dst.Addr(), SPI: klips.SPI(binary.BigEndian.Uint32(spi[len(spi)-4:])), Proto: klips.Proto(sel.Proto)},
		ref: uint32(l.SoftBytes >> 32), refHim: uint32(l.SoftBytes),
		soft: uint32(l.HardBytes >> 32), hard: uint32(l.HardBytes),
		added: l.SoftPackets >> 16, outIf: uint16(l.SoftPackets),
		copyTOS: l.HardPackets&copiesTOS != 0, age: age(p),
	}
	switch {
	case l.HardPackets&isInbound != 0:
		s.dir = klips.Inbound
	case l.HardPackets&servesBoth != 0:
		s.dir = klips.Both
	}
	for _, t := range p.Templates {
		switch t.AuthAlgs {
		case noteSelf:
			s.src, s.window = t.Src, t.CryptAlgs
		case noteOuter:
			outer = readSAID(&t)
		case notePolicy:
			s.policy = new(readSelector(&t))
		}
	}
	return s, outer, s.src.IsValid()
}

func readSAID(t *nlxfrm.Template) klips.SAID {
	return klips.SAID{Dst: t.Dst, SPI: klips.SPI(t.SPI), Proto: klips.Proto(t.ReqID)}
}

// readInner returns the inner neighbour in a record, the zero SAID for none.
func readInner(p *nlxfrm.Policy) (inner klips.SAID) {
	for i := range p.Templates {
		if t := &p.Templates[i]; t.AuthAlgs == noteInner {
			inner = readSAID(t)
		}
	}
	return inner
}

// age returns a number that ascends with the time at which a policy was made; it is
// never 0. The kernel keeps it when a policy is replaced.
func age(p *nlxfrm.Policy) uint32 { return p.Index>>3 + 1 }

// labelRoute writes its eroute into a policy.
func labelRoute(p *nlxfrm.Policy, e *klips.Eroute) {
	dst := e.ID.Dst.As16()
	p.Limits = nlxfrm.Limits{
		SoftBytes: binary.BigEndian.Uint64(dst[:]), HardBytes: binary.BigEndian.Uint64(dst[8:]),
		SoftPackets: uint64(e.ID.SPI)<<32 | uint64(len(e.Also))<<8 | uint64(e.ID.Proto), HardPackets: mark | uint64(uint32(e.PID)),
	}
}

// readRoute returns the eroute of one of our policies. It does not have the further SAs yet.
func readRoute(p *nlxfrm.Policy) *route {
	var dst [16]byte
	binary.BigEndian.PutUint64(dst[:], p.Limits.SoftBytes)
	binary.BigEndian.PutUint64(dst[8:], p.Limits.HardBytes)
	return &route{
		Eroute: klips.Eroute{
			Selector: klips.Selector{Src: p.Selector.Src, Dst: p.Selector.Dst, Proto: p.Selector.Proto,
				SrcPort: p.Selector.SrcPort, DstPort: p.Selector.DstPort},
			ID: klips.SAID{Dst: netip.AddrFrom16(dst).Unmap(), SPI: klips.SPI(p.Limits.SoftPackets >> 32),
				Proto: klips.Proto(p.Limits.SoftPackets)},
			PID: int32(uint32(p.Limits.HardPackets)),
		},
		age:  age(p),
		also: int(uint8(p.Limits.SoftPackets >> 8)),
	}
}

// selectorOf returns the kernel's selector for that of an eroute or inbound policy.
func selectorOf(s klips.Selector) nlxfrm.Selector {
	k := nlxfrm.Selector{Src: s.Src, Dst: s.Dst, Proto: s.Proto, SrcPort: s.SrcPort, DstPort: s.DstPort}
	if s.SrcPort != 0 {
		k.SrcPortMask = 0xffff
	}
	if s.DstPort != 0 {
		k.DstPortMask = 0xffff
	}
	return normal(k)
}

package nlxfrm

import (
	"fmt"
	"net/netip"
)

// A Selector selects packets for a policy or state. Two policies of one direction, mark
// and interface ID are the same if their selectors are equal bit by bit, including host
// bits of the prefixes and masked bits of the ports.
type Selector struct { // struct xfrm_selector
	// Family is that of the prefixes. 0 means the family of these prefixes; without a
	// prefix it is AF_UNSPEC, which only a state may have.
	Family               uint16
	Dst, Src             netip.Prefix // the zero Prefix is every address
	DstPort, DstPortMask uint16       // mask 0 is every port, 0xffff exactly one
	SrcPort, SrcPortMask uint16       // for ICMP, the type is here and the code in DstPort
	Proto                uint8        // 0 is every protocol
	IfIndex              int32        // device; 0 is every one
	User                 uint32       // owner of the socket; kernels ignore it
}

func (s *Selector) put(b []byte) error {
	family := s.Family
	if family == FamilyUnspec {
		family = familyOf(s.Dst.Addr(), s.Src.Addr())
	}
	if err := checkFamily("selector", family, s.Dst.Addr(), s.Src.Addr()); err != nil {
		return err
	}
	putAddr(b, s.Dst.Addr())
	putAddr(b[16:], s.Src.Addr())
	be.PutUint16(b[32:], s.DstPort)
	be.PutUint16(b[34:], s.DstPortMask)
	be.PutUint16(b[36:], s.SrcPort)
	be.PutUint16(b[38:], s.SrcPortMask)
	native.PutUint16(b[40:], family)
	b[42] = byte(max(s.Dst.Bits(), 0))
	b[43] = byte(max(s.Src.Bits(), 0))
	b[44] = s.Proto
	native.PutUint32(b[48:], uint32(s.IfIndex))
	native.PutUint32(b[52:], s.User)
	return nil
}

func (s *Selector) get(b []byte) error {
	s.Family = native.Uint16(b[40:])
	for i, p := range []*netip.Prefix{&s.Dst, &s.Src} {
		addr, bits := getAddr(b[16*i:], s.Family), int(b[42+i])
		if !addr.IsValid() {
			continue
		}
		if *p = netip.PrefixFrom(addr, bits); !p.IsValid() {
			return malformed("selector has %v/%d", addr, bits)
		}
	}
	s.DstPort, s.DstPortMask = be.Uint16(b[32:]), be.Uint16(b[34:])
	s.SrcPort, s.SrcPortMask = be.Uint16(b[36:]), be.Uint16(b[38:])
	s.Proto = b[44]
	s.IfIndex = int32(native.Uint32(b[48:]))
	s.User = native.Uint32(b[52:])
	return nil
}

// An ID names a state among those with the same mark.
type ID struct { // struct xfrm_id
	Dst   netip.Addr
	SPI   uint32
	Proto uint8 // 50 ESP, 51 AH, 108 IPComp
}

func (id ID) String() string { return fmt.Sprintf("proto %d spi %#x dst %v", id.Proto, id.SPI, id.Dst) }

func (id *ID) put(b []byte) {
	putAddr(b, id.Dst)
	be.PutUint32(b[16:], id.SPI)
	b[20] = id.Proto
}

func (id *ID) get(b []byte, family uint16) {
	*id = ID{getAddr(b, family), be.Uint32(b[16:]), b[20]}
}

// putUser writes a struct xfrm_usersa_id, which also has the family.
func (id *ID) putUser(b []byte) error {
	if !id.Dst.IsValid() {
		return fmt.Errorf("the destination is missing")
	}
	id.put(b)
	family := familyOf(id.Dst)
	native.PutUint16(b[20:], family)
	b[22] = id.Proto
	return checkFamily("destination", family, id.Dst)
}

func (id *ID) getUser(b []byte) {
	*id = ID{getAddr(b, native.Uint16(b[20:])), be.Uint32(b[16:]), b[22]}
}

// A Mark is a packet mark and a mask of its significant bits. The zero Mark means none.
type Mark struct { // struct xfrm_mark
	Value, Mask uint32
}

func (m Mark) append(b []byte) []byte {
	if m == (Mark{}) {
		return b
	}
	b, p := appendAttr(b, attrMark, 8)
	native.PutUint32(p, m.Value)
	native.PutUint32(p[4:], m.Mask)
	return b
}

func (m *Mark) get(p []byte) error {
	if err := want(attrMark, p, 8); err != nil {
		return err
	}
	*m = Mark{native.Uint32(p), native.Uint32(p[4:])}
	return nil
}

func getUint32(typ uint16, p []byte, v *uint32) error {
	if err := want(typ, p, 4); err != nil {
		return err
	}
	*v = native.Uint32(p)
	return nil
}

// Limits are the lifetime limits of a state or policy: the kernel reports soft ones,
// and deletes the object at hard ones. 0 is no limit.
type Limits struct { // struct xfrm_lifetime_cfg
	SoftBytes, HardBytes           uint64
	SoftPackets, HardPackets       uint64
	SoftAddSeconds, HardAddSeconds uint64 // since it was added
	SoftUseSeconds, HardUseSeconds uint64 // since it was first used
}

// unlimited is XFRM_INF.
const unlimited = ^uint64(0)

func (l *Limits) fields() [8]*uint64 {
	return [8]*uint64{&l.SoftBytes, &l.HardBytes, &l.SoftPackets, &l.HardPackets,
		&l.SoftAddSeconds, &l.HardAddSeconds, &l.SoftUseSeconds, &l.HardUseSeconds}
}

func (l *Limits) put(b []byte) {
	for i, f := range l.fields() {
		v := *f
		if v == 0 && i < 4 {
			v = unlimited // 0 would be reached before the first packet
		}
		native.PutUint64(b[8*i:], v)
	}
}

func (l *Limits) get(b []byte) {
	for i, f := range l.fields() {
		if *f = native.Uint64(b[8*i:]); *f == unlimited {
			*f = 0
		}
	}
}

// Current is the used part of a state's or policy's lifetime.
type Current struct { // struct xfrm_lifetime_cur
	Bytes, Packets   uint64
	AddTime, UseTime uint64 // seconds since 1970; UseTime is the first use, 0 before it
}

func (c *Current) put(b []byte) {
	for i, v := range []uint64{c.Bytes, c.Packets, c.AddTime, c.UseTime} {
		native.PutUint64(b[8*i:], v)
	}
}

func (c *Current) get(b []byte) {
	*c = Current{native.Uint64(b), native.Uint64(b[8:]), native.Uint64(b[16:]), native.Uint64(b[24:])}
}

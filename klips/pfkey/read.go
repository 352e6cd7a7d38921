package pfkey

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// The methods of this file read requests into the types of package klips, in a stack.
// They expect a message that passed [Check], and return an *[Error] with EINVAL if
// something is missing or does not fit the types.

func missing(t Type, e ExtType) error { return &Error{syscall.EINVAL, t, e, "is missing"} }

// SAID returns the SA that a message names: its SA type, SPI and destination.
func (m *Message) SAID() (klips.SAID, error) {
	return m.said(m.SAType, ExtSA, m.SA, ExtDst, m.Dst)
}

// SAID2 returns the second SA of X_GRPSA.
func (m *Message) SAID2() (klips.SAID, error) {
	if m.SAType2 == nil {
		return klips.SAID{}, missing(m.Type, ExtSAType2)
	}
	return m.said(*m.SAType2, ExtSA2, m.SA2, ExtDst2, m.Dst2)
}

func (m *Message) said(st SAType, es ExtType, sa *SA, ed ExtType, dst *Address) (klips.SAID, error) {
	if sa == nil {
		return klips.SAID{}, missing(m.Type, es)
	}
	if dst == nil {
		return klips.SAID{}, missing(m.Type, ed)
	}
	proto, ok := st.Proto()
	if !ok {
		return klips.SAID{}, &Error{syscall.EINVAL, m.Type, 0, st.String() + " has no protocol"}
	}
	id := klips.SAID{Dst: dst.Addr, SPI: sa.SPI, Proto: proto}
	if err := checkSAID(id); err != nil {
		err.Type, err.Ext = m.Type, ed
		return klips.SAID{}, err
	}
	return id, nil
}

// SASpec returns the SA of an ADD or UPDATE. The keys are copies; the caller clears
// them with [klips.SASpec.ClearKeys].
func (m *Message) SASpec() (*klips.SASpec, error) {
	id, err := m.SAID()
	if err != nil {
		return nil, err
	}
	s := &klips.SASpec{ID: id, Window: uint32(m.SA.Replay)}
	s.Auth = m.SA.Auth
	if id.Proto == klips.ProtoComp {
		s.Comp = alg.Comp(m.SA.Encrypt)
	} else {
		s.Enc = alg.Enc(m.SA.Encrypt)
	}
	if m.Src != nil {
		if m.Src.Addr.Is4In6() {
			return nil, &Error{syscall.EINVAL, m.Type, ExtSrc, "an IPv4 address in IPv6 form"}
		}
		s.Src = m.Src.Addr
	}
	if m.KeyAuth != nil {
		s.AuthKey = slices.Clone(m.KeyAuth.Data)
	}
	if m.KeyEncrypt != nil {
		s.EncKey = slices.Clone(m.KeyEncrypt.Data)
	}
	s.Hard, s.Soft = m.LifeHard.limits(), m.LifeSoft.limits()
	if m.NATTType != nil {
		s.NATT.Type = klips.NATTType(*m.NATTType)
	}
	if m.NATTSPort != nil {
		s.NATT.SPort = uint16(*m.NATTSPort)
	}
	if m.NATTDPort != nil {
		s.NATT.DPort = uint16(*m.NATTDPort)
	}
	if m.NATTOA != nil {
		s.NATT.OA = m.NATTOA.Addr
	}
	if m.PlumbIf != nil {
		s.OutIf = uint16(*m.PlumbIf)
	}
	if m.SA.Ref != noSARef {
		s.Ref = m.SA.Ref
	}
	if m.SARef != nil {
		s.Ref, s.RefHim = m.SARef.Me, m.SARef.Him
	}
	return s, nil
}

func (l *Lifetime) limits() klips.Limits {
	if l == nil {
		return klips.Limits{}
	}
	return klips.Limits{Allocations: l.Allocations, Bytes: l.Bytes, AddTime: l.AddTime, UseTime: l.UseTime}
}

// Reservation returns the values of a GETSPI: destination and protocol of the SA, its
// source, and the range of SPIs, inclusive.
func (m *Message) Reservation() (id klips.SAID, src netip.Addr, r SPIRange, err error) {
	switch {
	case m.SPIRange == nil:
		err = missing(m.Type, ExtSPIRange)
	case m.Src == nil:
		err = missing(m.Type, ExtSrc)
	case m.Src.Addr.Is4In6():
		err = &Error{syscall.EINVAL, m.Type, ExtSrc, "an IPv4 address in IPv6 form"}
	default:
		id, err = m.said(m.SAType, ExtSA, &SA{}, ExtDst, m.Dst)
	}
	if err != nil {
		return klips.SAID{}, netip.Addr{}, SPIRange{}, err
	}
	return id, m.Src.Addr, *m.SPIRange, nil
}

// Ports reports whether an UPDATE changes only UDP ports. It returns n with its ports
// replaced by those in the message.
func (m *Message) Ports(n klips.NATT) (klips.NATT, bool) {
	if m.NATTSPort != nil {
		n.SPort = uint16(*m.NATTSPort)
	}
	if m.NATTDPort != nil {
		n.DPort = uint16(*m.NATTDPort)
	}
	return n, m.NATTSPort != nil || m.NATTDPort != nil
}

// Group returns the SAs of X_GRPSA, one (to ungroup) or two.
func (m *Message) Group() ([]klips.SAID, error) {
	a, err := m.SAID()
	if err != nil {
		return nil, err
	}
	if m.SAType2 == nil && m.SA2 == nil && m.Dst2 == nil {
		return []klips.SAID{a}, nil
	}
	b, err := m.SAID2()
	if err != nil {
		return nil, err
	}
	return []klips.SAID{a, b}, nil
}

// Eroute returns the eroute of X_ADDFLOW. Packets is 0, PID is the sender's.
func (m *Message) Eroute() (klips.Eroute, klips.ErouteOp, error) {
	e := klips.Eroute{PID: int32(m.PID), IdentSrc: m.IdentSrc.klips(), IdentDst: m.IdentDst.klips()}
	var err error
	if e.ID, err = m.SAID(); err != nil {
		return klips.Eroute{}, 0, err
	}
	if e.Selector, err = m.Selector(); err != nil {
		return klips.Eroute{}, 0, err
	}
	op := klips.ErouteAdd
	in := m.SA.Flags&(klips.FlagInFlow|klips.FlagPolicyOnly) != 0
	switch replace := m.SA.Flags&klips.FlagReplaceFlow != 0; {
	case in && replace:
		op = klips.ErouteReplaceIn
	case in:
		op = klips.ErouteAddIn
	case replace:
		op = klips.ErouteReplace
	}
	return e, op, nil
}

func (i *Ident) klips() *klips.Ident {
	if i == nil {
		return nil
	}
	return new(klips.Ident(*i))
}

// ClearsFlows reports whether an X_DELFLOW removes all eroutes; if not, it removes the
// one with the [Message.Selector].
func (m *Message) ClearsFlows() bool {
	return m.Type == TypeDelFlow && m.SA != nil && m.SA.Flags&klips.FlagClearFlow != 0
}

// Selector returns the selector of X_ADDFLOW and X_DELFLOW. Flows of two
// families, masks that are not prefixes and addresses with bits outside their
// mask are errors: no packet could ever match them.
func (m *Message) Selector() (klips.Selector, error) {
	for _, f := range [...]struct {
		t ExtType
		a *Address
	}{{ExtSrcFlow, m.SrcFlow}, {ExtDstFlow, m.DstFlow}, {ExtSrcMask, m.SrcMask}, {ExtDstMask, m.DstMask}} {
		if f.a == nil {
			return klips.Selector{}, missing(m.Type, f.t)
		}
		if f.a.Addr.Is4In6() || f.a.Addr.Is4() != m.SrcFlow.Addr.Is4() {
			return klips.Selector{}, &Error{syscall.EINVAL, m.Type, f.t, "address families differ"}
		}
	}
	s := klips.Selector{SrcPort: m.SrcFlow.Port, DstPort: m.DstFlow.Port}
	var err *Error
	if s.Src, err = prefix(m.SrcFlow, m.SrcMask); err != nil {
		err.Type, err.Ext = m.Type, ExtSrcMask
		return klips.Selector{}, err
	}
	if s.Dst, err = prefix(m.DstFlow, m.DstMask); err != nil {
		err.Type, err.Ext = m.Type, ExtDstMask
		return klips.Selector{}, err
	}
	if m.Protocol != nil {
		s.Proto = m.Protocol.Proto
	}
	return s, nil
}

// prefix returns addr/mask; both must have the same family.
func prefix(addr, mask *Address) (netip.Prefix, *Error) {
	b := mask.Addr.AsSlice()
	n := 0
	for n < 8*len(b) && b[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	want := make([]byte, len(b))
	setBits(want, n)
	if !slices.Equal(b, want) {
		return netip.Prefix{}, fault(syscall.EINVAL, "mask %v is not a prefix", mask.Addr)
	}
	p := netip.PrefixFrom(addr.Addr, n)
	if p.Masked() != p {
		return netip.Prefix{}, fault(syscall.EINVAL, "%v has bits outside its mask", p)
	}
	if addr.Port == 0 && mask.Port != 0 || addr.Port != 0 && mask.Port != 0xffff {
		return netip.Prefix{}, fault(syscall.EINVAL, "port %d with mask %#x", addr.Port, mask.Port)
	}
	return p, nil
}

// DebugChange returns the change of X_DEBUG.
func (m *Message) DebugChange() (klips.DebugChange, error) {
	if m.Debug == nil {
		return klips.DebugChange{}, missing(m.Type, ExtDebug)
	}
	c := klips.DebugChange{Masks: klips.Debug(*m.Debug)}
	c.Set = c.Masks[klips.DebugNetlink]&netlinkSet != 0
	c.Masks[klips.DebugNetlink] &^= netlinkSet
	return c, nil
}

// Plumb returns the device name in X_PLUMBIF and X_UNPLUMBIF, and whether to create the
// device.
func (m *Message) Plumb() (name string, create bool, err error) {
	if m.PlumbIf == nil {
		return "", false, missing(m.Type, ExtPlumbIf)
	}
	return DeviceName(uint16(*m.PlumbIf)), m.Type == TypePlumbIf, nil
}

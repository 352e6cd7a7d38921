package pfkey

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// The functions of this file build requests, byte for byte those of the classic tools.
// The sender sets sequence number and process id. A value that the wire cannot carry,
// such as an SA without a destination, is an error of marshalling.
//
// The classic tools also send values without an effect, such as the source or the
// replay window with DeleteSA and GetSA. No stack uses them; they are left out here.

// AddSA requests a new SA (ADD). The message has copies of the keys; clear it with
// [Message.Clear] after use. It has only what KLIPS' messages can express: a window
// above 64 becomes 64, packet limits and extended sequence numbers are left out.
func AddSA(spec *klips.SASpec) *Message {
	m := saRequest(TypeAdd, spec.ID)
	if spec.Src.IsValid() {
		m.Src.Addr = spec.Src
	}
	m.SA.Replay = uint8(min(spec.Window, MaxWindow))
	m.SA.Auth = spec.Auth
	m.SA.Encrypt = uint8(spec.Enc)
	if spec.ID.Proto == klips.ProtoComp {
		m.SA.Encrypt = uint8(spec.Comp)
	}
	m.LifeHard, m.LifeSoft = newLimits(spec.Hard), newLimits(spec.Soft)
	m.KeyAuth, m.KeyEncrypt = NewKey(slices.Clone(spec.AuthKey)), NewKey(slices.Clone(spec.EncKey))
	if spec.NATT.Type != klips.NATTNone {
		m.NATTType = new(NATTType(spec.NATT.Type))
		if spec.NATT.SPort != 0 {
			m.NATTSPort = new(Port(spec.NATT.SPort))
		}
		if spec.NATT.DPort != 0 {
			m.NATTDPort = new(Port(spec.NATT.DPort))
		}
	}
	if spec.OutIf != 0 {
		m.PlumbIf = new(Device(spec.OutIf))
	}
	if spec.Ref != 0 || spec.RefHim != 0 {
		m.SARef = &SARef{Me: spec.Ref, Him: spec.RefHim}
	}
	return m
}

// newLimits makes an extension of zeros if the only limit is one of packets, as the
// classic tools do.
func newLimits(l klips.Limits) *Lifetime {
	if l == (klips.Limits{}) {
		return nil
	}
	return &Lifetime{Allocations: l.Allocations, Bytes: l.Bytes, AddTime: l.AddTime, UseTime: l.UseTime}
}

// GetSPI requests to reserve an SPI between min and max, inclusive, for an SA that
// [UpdateSA] will make usable (GETSPI). The SPI of id is ignored; an invalid src means
// any.
func GetSPI(id klips.SAID, src netip.Addr, min, max klips.SPI) *Message {
	m := request(TypeGetSPI, SATypeOf(id.Proto))
	if !src.IsValid() {
		src = anyOf(id.Dst)
	}
	m.Src, m.Dst = &Address{Addr: src}, &Address{Addr: id.Dst}
	m.SPIRange = &SPIRange{Min: min, Max: max}
	return m
}

// UpdateSA requests to give an existing SA, or one reserved with [GetSPI], the
// algorithms, keys and limits of spec (UPDATE). As with [AddSA], the message has copies
// of the keys. It cannot express encapsulation, device and SArefs, which stay the same.
func UpdateSA(spec *klips.SASpec) *Message {
	m := AddSA(spec)
	m.Type = TypeUpdate
	m.NATTType, m.NATTSPort, m.NATTDPort, m.PlumbIf, m.SARef = nil, nil, nil, nil, nil
	return m
}

// UpdatePorts requests to change only the UDP ports of an SA (UPDATE). KLIPS requires
// algorithms in the message, but ignores their keys: spec has those of the SA.
func UpdatePorts(spec *klips.SASpec, sport, dport uint16) *Message {
	m := UpdateSA(spec)
	m.Clear()
	m.KeyAuth, m.KeyEncrypt, m.LifeHard, m.LifeSoft = nil, nil, nil, nil
	m.NATTSPort, m.NATTDPort = new(Port(sport)), new(Port(dport))
	return m
}

// DeleteSA requests to remove an SA (DELETE).
func DeleteSA(id klips.SAID) *Message { return saRequest(TypeDelete, id) }

// GetSA requests an SA (GET).
func GetSA(id klips.SAID) *Message { return saRequest(TypeGet, id) }

// Flush requests to remove all SAs (FLUSH), of every type. satype is optional: the
// classic tool puts the type of an SA on its command line, which has no effect, into
// the header.
func Flush(satype ...SAType) *Message { return request(TypeFlush, first(satype)) }

// GroupPair requests to link two SAs, the inner transform first (X_GRPSA).
func GroupPair(a, b klips.SAID) *Message {
	m := Ungroup(a)
	m.SAType2 = new(SATypeOf(b.Proto))
	m.SA2 = &SA{SPI: b.SPI}
	m.Dst2 = &Address{Addr: b.Dst}
	return m
}

// Ungroup requests to take the group of an SA apart (X_GRPSA).
func Ungroup(id klips.SAID) *Message {
	m := request(TypeGroupSA, SATypeOf(id.Proto))
	m.SA = &SA{SPI: id.SPI}
	m.Dst = &Address{Addr: id.Dst}
	return m
}

// AddFlow requests an eroute or an inbound policy (X_ADDFLOW).
func AddFlow(e klips.Eroute, op klips.ErouteOp) *Message {
	m := request(TypeAddFlow, SATypeOf(e.ID.Proto))
	m.SA = &SA{SPI: e.ID.SPI}
	switch op {
	case klips.ErouteReplace:
		m.SA.Flags = klips.FlagReplaceFlow
	case klips.ErouteAddIn:
		m.SA.Flags = klips.FlagInFlow
	case klips.ErouteReplaceIn:
		m.SA.Flags = klips.FlagReplaceFlow | klips.FlagInFlow
	}
	m.Src = &Address{Addr: anyOf(e.ID.Dst)}
	m.Dst = &Address{Addr: e.ID.Dst}
	m.IdentSrc, m.IdentDst = newIdent(e.IdentSrc), newIdent(e.IdentDst)
	m.setFlow(e.Selector)
	return m
}

// newIdent returns a copy of an identity as an extension, nil for none.
func newIdent(i *klips.Ident) *Ident {
	if i == nil {
		return nil
	}
	return new(Ident(*i))
}

// DelFlow requests to remove the eroute with a selector (X_DELFLOW). satype is as for
// [Flush].
func DelFlow(s klips.Selector, satype ...SAType) *Message {
	m := request(TypeDelFlow, first(satype))
	m.setFlow(s)
	return m
}

// ClearFlows requests to remove all eroutes (X_DELFLOW).
func ClearFlows() *Message {
	m := request(TypeDelFlow, SATypeUnspec)
	m.SA = &SA{Flags: klips.FlagClearFlow}
	return m
}

// netlinkSet is the bit of the netlink mask that selects OR.
const netlinkSet = 1 << 31

// Debug requests to change the debug masks (X_DEBUG). Bit 31 of the netlink mask cannot
// be sent: on the wire it selects the operation.
func Debug(c klips.DebugChange) *Message {
	m := request(TypeDebug, SATypeUnspec)
	masks := DebugMasks(c.Masks)
	masks[klips.DebugNetlink] &^= netlinkSet
	if c.Set {
		masks[klips.DebugNetlink] |= netlinkSet
	}
	m.Debug = &masks
	return m
}

// Plumb requests to create a virtual device (X_PLUMBIF), or to delete it (X_UNPLUMBIF).
// The error is that of [DeviceNumber].
func Plumb(name string, create bool) (*Message, error) {
	n, err := DeviceNumber(name)
	if err != nil {
		return nil, err
	}
	t := TypeUnplumbIf
	if create {
		t = TypePlumbIf
	}
	m := request(t, SATypeUnspec)
	m.PlumbIf = new(Device(n))
	return m, nil
}

// Register requests ACQUIREs for SAs of one type (REGISTER). EXPIREs go to every
// client.
func Register(satype SAType) *Message { return request(TypeRegister, satype) }

func first(s []SAType) SAType {
	if len(s) == 0 {
		return SATypeUnspec
	}
	return s[0]
}

func request(t Type, satype SAType) *Message {
	return &Message{Header: Header{Type: t, SAType: satype}}
}

// saRequest makes a request that names one SA, with SPI, destination and a source that
// means any.
func saRequest(t Type, id klips.SAID) *Message {
	m := request(t, SATypeOf(id.Proto))
	m.SA = &SA{SPI: id.SPI, State: klips.Mature}
	m.Src = &Address{Addr: anyOf(id.Dst)}
	m.Dst = &Address{Addr: id.Dst}
	return m
}

// anyOf returns the unspecified address of the family of a.
func anyOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (m *Message) setFlow(s klips.Selector) {
	m.SrcFlow, m.SrcMask = flow(s.Src, s.SrcPort)
	m.DstFlow, m.DstMask = flow(s.Dst, s.DstPort)
	if s.Proto != 0 {
		m.Protocol = &Protocol{Proto: s.Proto}
	}
}

func flow(p netip.Prefix, port uint16) (addr, mask *Address) {
	addr = &Address{Addr: p.Addr(), Port: port}
	mask = &Address{}
	switch {
	case p.Addr().Is4():
		var b [4]byte
		setBits(b[:], p.Bits())
		mask.Addr = netip.AddrFrom4(b)
	case p.Addr().Is6():
		var b [16]byte
		setBits(b[:], p.Bits())
		mask.Addr = netip.AddrFrom16(b)
	}
	if port != 0 {
		mask.Port = 0xffff
	}
	return addr, mask
}

// setBits sets the n leading bits of b.
func setBits(b []byte, n int) {
	for i := range b {
		switch {
		case n >= 8:
			b[i] = 0xff
		case n > 0:
			b[i] = ^byte(0xff >> n)
		}
		n -= 8
	}
}

// checkSAID refuses SAIDs that no stack can hold.
func checkSAID(id klips.SAID) *Error {
	switch {
	case SATypeOf(id.Proto) == SATypeUnspec:
		return fault(syscall.EINVAL, "protocol %d has no SAs", id.Proto)
	case id.Dst.Is4In6():
		return fault(syscall.EINVAL, "%v is an IPv4 address in IPv6 form", id.Dst)
	}
	return nil
}

package nlxfrm

import (
	"fmt"
	"net/netip"
)

// MaxTemplates is the kernel's maximum number of templates in a policy.
const MaxTemplates = 6 // XFRM_MAX_DEPTH

// A Policy decides about the packets that match its selector. Of all matching policies
// the kernel takes the one with the lowest priority, and of these the oldest.
type Policy struct { // struct xfrm_userpolicy_info
	Selector  Selector // with a family
	Dir       Dir
	Action    Action
	Priority  uint32
	Index     uint32 // 0: the kernel chooses; its low three bits are the direction
	Flags     uint8  // PolicyLocalOK, PolicyICMP
	Share     uint8
	Type      PolicyType
	Mark      Mark
	IfID      uint32
	Limits    Limits
	Current   Current    // only read
	Offload   *Offload   // packet offload; only kernels from 6.2 on
	Templates []Template // innermost first; without any, packets pass unchanged
}

// A Template is a state that packets of a policy need.
type Template struct { // struct xfrm_user_tmpl
	// ID names the state. If its SPI is 0, the kernel chooses a state by ReqID. If Dst
	// and Src are zero (transport mode), they are the packet's own addresses.
	ID
	Src netip.Addr
	// Family is that of Dst and Src. 0 means the family of these addresses, or else
	// that of the selector. A policy that was read has 0 only if its selector has no
	// family either.
	Family uint16
	ReqID  uint32
	Mode   Mode
	Share  uint8
	// Optional is "level use": if there is no state, the packet passes without it.
	// Newer kernels refuse it for tunnels in outbound policies.
	Optional bool
	// Masks of allowed algorithms, by PF_KEY numbers; three zeros mean all.
	AuthAlgs, CryptAlgs, CompAlgs uint32
}

// A PolicyKey names a policy: by direction and selector, or by index if that is
// not 0. Type, mark and interface ID must be the policy's in either case.
type PolicyKey struct { // struct xfrm_userpolicy_id
	Dir      Dir
	Selector Selector
	Index    uint32
	Type     PolicyType
	Mark     Mark
	IfID     uint32
}

// Key returns the policy's key with its selector.
func (p *Policy) Key() PolicyKey {
	return PolicyKey{Dir: p.Dir, Selector: p.Selector, Type: p.Type, Mark: p.Mark, IfID: p.IfID}
}

func (k PolicyKey) String() string {
	if k.Index != 0 {
		return fmt.Sprintf("dir %v index %d", k.Dir, k.Index)
	}
	s := fmt.Sprintf("dir %v", k.Dir)
	if k.Selector.Src.IsValid() {
		s += fmt.Sprintf(" src %v", k.Selector.Src)
	}
	if k.Selector.Dst.IsValid() {
		s += fmt.Sprintf(" dst %v", k.Selector.Dst)
	}
	if k.Selector.Proto != 0 {
		s += fmt.Sprintf(" proto %d", k.Selector.Proto)
	}
	if k.IfID != 0 {
		s += fmt.Sprintf(" if_id %#x", k.IfID)
	}
	return s
}

func appendPolicyType(b []byte, t PolicyType) []byte {
	if t == TypeMain {
		return b
	}
	b, p := appendAttr(b, attrPolicyType, policyTypeLen)
	p[0] = byte(t)
	return b
}

func (k *PolicyKey) encode() ([]byte, error) {
	b := make([]byte, policyIDLen, policyIDLen+32)
	if err := k.Selector.put(b); err != nil {
		return nil, err
	}
	native.PutUint32(b[56:], k.Index)
	b[60] = byte(k.Dir)
	b = k.Mark.append(appendPolicyType(b, k.Type))
	if k.IfID != 0 {
		b = appendUint32(b, attrIfID, k.IfID)
	}
	return b, nil
}

func (p *Policy) encode() ([]byte, error) {
	b := make([]byte, policyInfoLen, policyInfoLen+64+templateLen*len(p.Templates))
	if err := p.Selector.put(b); err != nil {
		return nil, err
	}
	family := native.Uint16(b[40:])
	p.Limits.put(b[56:])
	native.PutUint32(b[152:], p.Priority)
	native.PutUint32(b[156:], p.Index)
	b[160], b[161], b[162], b[163] = byte(p.Dir), byte(p.Action), p.Flags, p.Share
	if n := len(p.Templates); n > MaxTemplates {
		return nil, fmt.Errorf("%d templates, at most %d", n, MaxTemplates)
	} else if n > 0 {
		var t []byte
		b, t = appendAttr(b, attrTmpl, templateLen*n)
		for i := range p.Templates {
			if err := p.Templates[i].put(t[templateLen*i:], family); err != nil {
				return nil, err
			}
		}
	}
	b = p.Mark.append(appendPolicyType(b, p.Type))
	if p.IfID != 0 {
		b = appendUint32(b, attrIfID, p.IfID)
	}
	if p.Offload != nil {
		b = p.Offload.append(b)
	}
	return b, nil
}

func (t *Template) put(b []byte, family uint16) error {
	if t.Family != FamilyUnspec {
		family = t.Family
	} else if f := familyOf(t.Dst, t.Src); f != FamilyUnspec {
		family = f
	}
	if err := checkFamily("template", family, t.Dst, t.Src); err != nil {
		return err
	}
	t.ID.put(b)
	native.PutUint16(b[24:], family)
	putAddr(b[28:], t.Src)
	native.PutUint32(b[44:], t.ReqID)
	b[48], b[49] = byte(t.Mode), t.Share
	if t.Optional {
		b[50] = 1
	}
	masks := [3]uint32{t.AuthAlgs, t.CryptAlgs, t.CompAlgs}
	for i, m := range masks {
		if masks == [3]uint32{} {
			m = ^uint32(0)
		}
		native.PutUint32(b[52+4*i:], m)
	}
	return nil
}

// get reads a template. A family of 0 in the message means the selector's, as in the
// kernel's validate_tmpl.
func (t *Template) get(b []byte, family uint16) {
	if t.Family = native.Uint16(b[24:]); t.Family == FamilyUnspec {
		t.Family = family
	}
	t.ID.get(b, t.Family)
	t.Src = getAddr(b[28:], t.Family)
	t.ReqID = native.Uint32(b[44:])
	t.Mode, t.Share, t.Optional = Mode(b[48]), b[49], b[50] != 0
	t.AuthAlgs, t.CryptAlgs, t.CompAlgs = native.Uint32(b[52:]), native.Uint32(b[56:]), native.Uint32(b[60:])
	if t.AuthAlgs&t.CryptAlgs&t.CompAlgs == ^uint32(0) {
		t.AuthAlgs, t.CryptAlgs, t.CompAlgs = 0, 0, 0
	}
}

// parsePolicy reads the data of a NEWPOLICY or UPDPOLICY message.
func parsePolicy(b []byte) (*Policy, error) {
	if len(b) < policyInfoLen {
		return nil, malformed("policy of %d bytes, want %d", len(b), policyInfoLen)
	}
	p := &Policy{
		Priority: native.Uint32(b[152:]), Index: native.Uint32(b[156:]),
		Dir: Dir(b[160]), Action: Action(b[161]), Flags: b[162], Share: b[163],
	}
	if err := p.Selector.get(b); err != nil {
		return nil, err
	}
	p.Limits.get(b[56:])
	p.Current.get(b[120:])
	var err, walk error
	for typ, v := range attrs(b[policyInfoLen:], &walk) {
		if err = p.parseAttr(typ, v); err != nil {
			return nil, err
		}
	}
	if walk != nil {
		return nil, walk
	}
	return p, nil
}

func (p *Policy) parseAttr(typ uint16, v []byte) (err error) {
	switch typ {
	case attrTmpl:
		if len(v)%templateLen != 0 || len(v)/templateLen > MaxTemplates {
			return malformed("templates of %d bytes", len(v))
		}
		p.Templates = make([]Template, len(v)/templateLen)
		for i := range p.Templates {
			p.Templates[i].get(v[templateLen*i:], p.Selector.Family)
		}
	case attrPolicyType:
		if err = want(typ, v, policyTypeLen); err == nil {
			p.Type = PolicyType(v[0])
		}
	case attrMark:
		err = p.Mark.get(v)
	case attrIfID:
		err = getUint32(typ, v, &p.IfID)
	case attrOffloadDev:
		p.Offload = new(Offload)
		err = p.Offload.get(v)
	}
	return err
}

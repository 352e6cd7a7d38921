package nlxfrm

import "net/netip"

// A State is one of the kernel's SAs.
type State struct { // struct xfrm_usersa_info
	ID
	Src      netip.Addr
	Family   uint16 // of Dst and Src; 0 means the family of these addresses
	Selector Selector
	Mode     Mode
	ReqID    uint32 // by which templates find the state
	Seq      uint32 // of the ACQUIRE for which it was made
	Flags    uint8  // FlagNoECN, …
	// ReplayWindow is in packets, at most 32, and must be 0 with ReplayESN.
	ReplayWindow uint8
	Limits       Limits
	// Current, if not zero, sets the new state's counters and times, for a state that
	// replaces another. UpdateState uses it too.
	Current Current
	Stats   Stats // only read

	// The attributes; nil and zero mean absent.
	Crypt      *Algorithm
	Auth       *AuthAlgorithm
	AEAD       *AEADAlgorithm
	Comp       string // name of the compression, as in "deflate"
	Encap      *Encap
	Mark       Mark
	OutputMark Mark // set on packets that come out; a mask of 0 means all bits if Value is not 0
	IfID       uint32
	ExtraFlags uint32 // ExtraDontEncapDSCP, …
	TFCPad     uint32 // length in bytes up to which packets are padded
	Offload    *Offload
	// SADir is since Linux 6.10. A state for SAOut has no window.
	SADir SADir
	// Processor is the number of the only processor whose packets the state protects, plus 1;
	// 0: it is for all. It needs SAOut, and is since Linux 6.13 (RFC 9611). Where templates
	// match several states, that of the processor is preferred.
	Processor uint32
	// Replay and ReplayESN set the new state's sequence numbers; no state has both.
	// UpdateState ignores them; use UpdateAE.
	Replay    *Replay
	ReplayESN *ReplayESN
	LastUsed  uint64 // seconds since 1970; only read
}

// Stats count packets that a state refused.
type Stats struct { // struct xfrm_stats
	OutOfWindow     uint32 // too old for the window
	Replayed        uint32 // received before
	IntegrityFailed uint32
}

// Encap is the UDP encapsulation of ESP.
type Encap struct { // struct xfrm_encap_tmpl
	Type             uint16 // EncapESPInUDP, …
	SrcPort, DstPort uint16
	Original         netip.Addr // the peer's address before NAT; may be zero
}

// Offload offloads a state to a network device.
type Offload struct { // struct xfrm_user_offload
	IfIndex int32
	Flags   uint8 // OffloadInbound, OffloadPacket
}

// ClearKeys overwrites the state's keys with zeros.
func (s *State) ClearKeys() {
	if s.Crypt != nil {
		s.Crypt.Key.Clear()
	}
	if s.Auth != nil {
		s.Auth.Key.Clear()
	}
	if s.AEAD != nil {
		s.AEAD.Key.Clear()
	}
}

func (s *State) encode() (b []byte, err error) {
	family := s.Family
	if family == FamilyUnspec {
		family = familyOf(s.Dst, s.Src)
	}
	if err := checkFamily("state", family, s.Dst, s.Src); err != nil {
		return nil, err
	}
	b = make([]byte, saInfoLen, saInfoLen+s.attrsLen())
	if err := s.Selector.put(b); err != nil {
		return nil, err
	}
	s.ID.put(b[56:])
	putAddr(b[80:], s.Src)
	s.Limits.put(b[96:])
	native.PutUint32(b[204:], s.Seq)
	native.PutUint32(b[208:], s.ReqID)
	native.PutUint16(b[212:], family)
	b[214], b[215], b[216] = byte(s.Mode), s.ReplayWindow, s.Flags
	return s.appendAttrs(b, family)
}

// attrsLen is the size of all attributes: growing a buffer would leave keys behind.
func (s *State) attrsLen() int {
	n := 1024 // without keys and bitmap
	if s.AEAD != nil {
		n += len(s.AEAD.Key)
	}
	if s.Auth != nil {
		n += len(s.Auth.Key)
	}
	if s.Crypt != nil {
		n += len(s.Crypt.Key)
	}
	if s.ReplayESN != nil {
		n += 4 * len(s.ReplayESN.Bitmap)
	}
	return n
}

func (s *State) appendAttrs(b []byte, family uint16) (_ []byte, err error) {
	if s.SADir != SABoth {
		var p []byte
		b, p = appendAttr(b, attrSADir, 1)
		p[0] = byte(s.SADir)
	}
	if s.AEAD != nil {
		b, err = appendAlg(b, attrAlgAEAD, s.AEAD.Name, s.AEAD.Key, s.AEAD.ICVBits)
	}
	if s.Auth != nil && err == nil {
		b, err = appendAlg(b, attrAlgAuthTrunc, s.Auth.Name, s.Auth.Key, s.Auth.TruncateBits)
	}
	if s.Crypt != nil && err == nil {
		b, err = appendAlg(b, attrAlgCrypt, s.Crypt.Name, s.Crypt.Key)
	}
	if s.Comp != "" && err == nil {
		b, err = appendAlg(b, attrAlgComp, s.Comp, nil)
	}
	if s.Encap != nil && err == nil {
		b, err = s.Encap.append(b, family)
	}
	if s.ReplayESN != nil && err == nil {
		b, err = s.ReplayESN.append(b)
	}
	if err != nil {
		clear(b) // contains keys
		return nil, err
	}
	if s.Replay != nil {
		b = s.Replay.append(b)
	}
	if s.Current != (Current{}) {
		var p []byte
		b, p = appendAttr(b, attrLtimeVal, currentLen)
		s.Current.put(p)
	}
	b = s.Mark.append(b)
	if s.OutputMark != (Mark{}) {
		b = appendUint32(b, attrSetMark, s.OutputMark.Value)
		if s.OutputMark.Mask != 0 {
			b = appendUint32(b, attrSetMarkMask, s.OutputMark.Mask)
		}
	}
	if s.IfID != 0 {
		b = appendUint32(b, attrIfID, s.IfID)
	}
	if s.ExtraFlags != 0 {
		b = appendUint32(b, attrSAExtraFlags, s.ExtraFlags)
	}
	if s.TFCPad != 0 {
		b = appendUint32(b, attrTFCPad, s.TFCPad)
	}
	if s.Offload != nil {
		b = s.Offload.append(b)
	}
	if s.Processor != 0 {
		b = appendUint32(b, attrSAPCPU, s.Processor-1)
	}
	return b, nil
}

func (e *Encap) append(b []byte, family uint16) ([]byte, error) {
	if err := checkFamily("original address", family, e.Original); err != nil {
		return b, err
	}
	b, p := appendAttr(b, attrEncap, encapLen)
	native.PutUint16(p, e.Type)
	be.PutUint16(p[2:], e.SrcPort)
	be.PutUint16(p[4:], e.DstPort)
	putAddr(p[8:], e.Original)
	return b, nil
}

func (o *Offload) append(b []byte) []byte {
	b, p := appendAttr(b, attrOffloadDev, offloadLen)
	native.PutUint32(p, uint32(o.IfIndex))
	p[4] = o.Flags
	return b
}

func (o *Offload) get(p []byte) error {
	if err := want(attrOffloadDev, p, offloadLen); err != nil {
		return err
	}
	*o = Offload{int32(native.Uint32(p)), p[4]}
	return nil
}

// parseState reads the data of a NEWSA or UPDSA message.
func parseState(b []byte) (*State, error) {
	if len(b) < saInfoLen {
		return nil, malformed("state of %d bytes, want %d", len(b), saInfoLen)
	}
	s := &State{Family: native.Uint16(b[212:])}
	if err := s.Selector.get(b); err != nil {
		return nil, err
	}
	s.ID.get(b[56:], s.Family)
	s.Src = getAddr(b[80:], s.Family)
	s.Limits.get(b[96:])
	s.Current.get(b[160:])
	s.Stats = Stats{native.Uint32(b[192:]), native.Uint32(b[196:]), native.Uint32(b[200:])}
	s.Seq = native.Uint32(b[204:])
	s.ReqID = native.Uint32(b[208:])
	s.Mode, s.ReplayWindow, s.Flags = Mode(b[214]), b[215], b[216]
	var err, walk error
	for typ, p := range attrs(b[saInfoLen:], &walk) {
		if err = s.parseAttr(typ, p); err != nil {
			break
		}
	}
	if err == nil {
		err = walk
	}
	if err != nil {
		s.ClearKeys()
		return nil, err
	}
	return s, nil
}

func (s *State) parseAttr(typ uint16, p []byte) (err error) {
	switch typ {
	case attrAlgCrypt:
		a := new(Algorithm)
		a.Name, _, a.Key, err = parseAlg(typ, p, algHeadLen)
		s.Crypt = a
	case attrAlgAuth:
		// The kernel shows the hash in two attributes; the other one has more data.
		if s.Auth == nil {
			a := new(AuthAlgorithm)
			a.Name, _, a.Key, err = parseAlg(typ, p, algHeadLen)
			s.Auth = a
		}
	case attrAlgAuthTrunc:
		if s.Auth != nil {
			s.Auth.Key.Clear()
		}
		a := new(AuthAlgorithm)
		a.Name, a.TruncateBits, a.Key, err = parseAlg(typ, p, algLongHeadLen)
		s.Auth = a
	case attrAlgAEAD:
		a := new(AEADAlgorithm)
		a.Name, a.ICVBits, a.Key, err = parseAlg(typ, p, algLongHeadLen)
		s.AEAD = a
	case attrAlgComp:
		s.Comp, _, _, err = parseAlg(typ, p, algHeadLen)
	case attrEncap:
		if err = want(typ, p, encapLen); err == nil {
			s.Encap = &Encap{Type: native.Uint16(p), SrcPort: be.Uint16(p[2:]), DstPort: be.Uint16(p[4:])}
			if a := getAddr(p[8:], s.Family); a.IsValid() && !a.IsUnspecified() {
				s.Encap.Original = a
			}
		}
	case attrReplayVal:
		s.Replay, err = parseReplay(p)
	case attrReplayESNVal:
		s.ReplayESN, err = parseReplayESN(p)
	case attrLtimeVal:
		if err = want(typ, p, currentLen); err == nil {
			s.Current.get(p)
		}
	case attrLastUsed:
		if err = want(typ, p, 8); err == nil {
			s.LastUsed = native.Uint64(p)
		}
	case attrMark:
		err = s.Mark.get(p)
	case attrSetMark:
		err = getUint32(typ, p, &s.OutputMark.Value)
	case attrSetMarkMask:
		err = getUint32(typ, p, &s.OutputMark.Mask)
	case attrIfID:
		err = getUint32(typ, p, &s.IfID)
	case attrSAExtraFlags:
		err = getUint32(typ, p, &s.ExtraFlags)
	case attrTFCPad:
		err = getUint32(typ, p, &s.TFCPad)
	case attrOffloadDev:
		s.Offload = new(Offload)
		err = s.Offload.get(p)
	case attrSADir:
		if err = want(typ, p, 1); err == nil {
			s.SADir = SADir(p[0])
		}
	case attrSAPCPU:
		if err = getUint32(typ, p, &s.Processor); err == nil {
			s.Processor++
		}
	}
	return err
}

package pfkey

import (
	"math/bits"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// A rule is the sets of required and optional extensions of a type of message; bit n is
// extension n.
type rule struct{ required, optional uint64 }

// Sets for the tables below.
const (
	extSA      = 1 << ExtSA
	extCurrent = 1 << ExtLifetimeCurrent
	extLimits  = 1<<ExtLifetimeHard | 1<<ExtLifetimeSoft
	extSrc     = 1 << ExtSrc
	extDst     = 1 << ExtDst
	extProxy   = 1 << ExtProxy
	extKeys    = 1<<ExtKeyAuth | 1<<ExtKeyEncrypt
	extIdents  = 1<<ExtIdentSrc | 1<<ExtIdentDst
	extSens    = 1 << ExtSensitivity
	extProp    = 1 << ExtProposal
	extSecond  = 1<<ExtSAType2 | 1<<ExtSA2 | 1<<ExtDst2
	extFlows   = 1<<ExtSrcFlow | 1<<ExtDstFlow | 1<<ExtSrcMask | 1<<ExtDstMask
	extProto   = 1 << ExtProtocol
	extNATT    = 1<<ExtNATTType | extPorts | 1<<ExtNATTOA
	extPorts   = 1<<ExtNATTSPort | 1<<ExtNATTDPort
	extPlumb   = 1 << ExtPlumbIf
	extRef     = 1 << ExtSARef
	extSAddr   = extSA | extSrc | extDst // the three that name an SA
	ext1to20   = 1<<21 - 2
)

// inRules are for requests, outRules for messages from a stack, as compiled into KLIPS.
// checkRules has one more rule: X_DELFLOW needs all flows, or an SA with the CLEARFLOW
// flag.
var (
	inRules = [maxType + 1]rule{
		TypeGetSPI:      {extSrc | extDst | 1<<ExtSPIRange, extProxy},
		TypeUpdate:      {extSAddr, extCurrent | extLimits | extProxy | extKeys | extIdents | extSens | extPorts},
		TypeAdd:         {extSAddr, extLimits | extProxy | extKeys | extIdents | extSens | extNATT | extPlumb | extRef},
		TypeDelete:      {extSAddr, 0},
		TypeGet:         {extSAddr, extCurrent},
		TypeAcquire:     {extSrc | extDst | extProp, extProxy | extIdents | extSens},
		TypePromisc:     {ext1to20, 0},
		TypePChange:     {ext1to20, 0},
		TypeGroupSA:     {extSA | extDst, extSecond},
		TypeAddFlow:     {extSA | extDst | extFlows, extSrc | extIdents | extProto},
		TypeDelFlow:     {0, extSA | extIdents | extFlows | extProto},
		TypeDebug:       {1 << ExtDebug, 0},
		TypeNATTMapping: {extSAddr | extPorts, 0},
		TypePlumbIf:     {extPlumb, 0},
		TypeUnplumbIf:   {extPlumb, 0},
	}
	outRules = [maxType + 1]rule{
		TypeGetSPI:   {extSAddr, 0},
		TypeUpdate:   {extSAddr, extCurrent | extLimits | extProxy | extIdents | extSens | extPorts},
		TypeAdd:      {extSAddr, extLimits | extIdents | extSens | extNATT | extPlumb | extRef},
		TypeDelete:   {extSAddr, 0},
		TypeGet:      {extSAddr, extCurrent | extLimits | extProxy | extKeys | extIdents | extSens | extNATT},
		TypeAcquire:  {extSrc | extDst | extProp, extProxy | extIdents | extSens},
		TypeRegister: {0, 1<<ExtSupportedAuth | 1<<ExtSupportedEnc},
		TypeExpire:   {extSAddr | extCurrent, extLimits},
		TypeDump:     {extSAddr | extKeys, extCurrent | extLimits | extProxy | extIdents | extSens | extNATT},
		TypePromisc:  {ext1to20, 0},
		TypePChange:  {ext1to20, 0},
		TypeGroupSA:  {extSA | extDst, extSecond},
		TypeAddFlow:  {extSA | extDst | extFlows, extSrc | extProto},
		// KLIPS also requires the flows here, although its own reply to a request to
		// clear all has none.
		TypeDelFlow:     {0, extSA | extFlows | extProto},
		TypeDebug:       {1 << ExtDebug, 0},
		TypeNATTMapping: {extSAddr | extPorts, 0},
		TypePlumbIf:     {extPlumb, 0},
		TypeUnplumbIf:   {extPlumb, 0},
	}
)

// Check checks a request as a KLIPS kernel does before it carries it out. It returns
// nil or an *[Error] with the errno of the kernel's write(), most often EINVAL. Private
// messages and extensions are refused like all unknown ones. Check does not depend on
// the state of the stack (EEXIST, ENOENT, …) or its algorithms.
func Check(m *Message) error {
	if err := check(m); err != nil {
		err.Type = m.Type
		return err
	}
	return nil
}

// CheckReply checks the extensions of a message from a stack: an *[Error] with EINVAL
// if it may not send them. A message with an errno may be a header only.
func CheckReply(m *Message) error {
	err := checkRules(m, true)
	if len(m.Private) > 0 {
		err = fault(syscall.EINVAL, "unknown extension %d", m.Private[0].Type)
	} else if err == nil || m.Errno != 0 && m.set() == 0 {
		return nil
	}
	err.Type = m.Type
	return err
}

func check(m *Message) *Error {
	if m.Type == 0 || m.Type > maxType {
		return fault(syscall.EINVAL, "unknown type %d", m.Type)
	}
	if err := checkSAType(m); err != nil {
		return err
	}
	if m.Errno != 0 && m.Type != TypeAcquire {
		return fault(syscall.EINVAL, "request with errno %d", int(m.Errno))
	}
	if len(m.Private) > 0 {
		return fault(syscall.EINVAL, "unknown extension %d", m.Private[0].Type)
	}
	for t, e := range m.exts() {
		err := e.check()
		if err == nil && t == ExtLifetimeCurrent {
			err = fault(syscall.EINVAL, "not taken in requests")
		}
		if err == nil && t == ExtProtocol && m.set()&(1<<ExtSrcFlow|1<<ExtDstFlow) == 0 {
			err = fault(syscall.EINVAL, "no flow that it belongs to")
		}
		if err != nil {
			err.Ext = t
			return err
		}
	}
	if err := checkRules(m, false); err != nil {
		return err
	}
	if m.Type == TypeAdd || m.Type == TypeUpdate {
		return checkAdd(m)
	}
	return nil
}

func checkSAType(m *Message) *Error {
	_, ok := m.SAType.Proto()
	switch m.Type {
	case TypeGetSPI, TypeUpdate, TypeAdd, TypeDelete, TypeGet, TypeGroupSA, TypeAddFlow:
	case TypeAcquire, TypeRegister, TypeExpire:
		ok = m.SAType != SATypeUnspec && m.SAType <= MaxSAType
	case TypeFlush:
		ok = ok || m.SAType == SATypeUnspec
	default:
		ok = m.SAType <= MaxSAType
	}
	if !ok {
		return fault(syscall.EINVAL, "%v is no SA type for it", m.SAType)
	}
	return nil
}

// set returns the extensions that are present, as the bits of a rule.
func (m *Message) set() uint64 {
	var s uint64
	for t := range m.exts() {
		s |= 1 << t
	}
	return s
}

func checkRules(m *Message, reply bool) *Error {
	var r rule
	switch {
	case m.Type > maxType:
	case reply:
		r = outRules[m.Type]
	default:
		r = inRules[m.Type]
	}
	have := m.set()
	if extra := have &^ (r.required | r.optional); extra != 0 {
		return &Error{syscall.EINVAL, 0, extOf(extra), "does not belong into this message"}
	}
	switch {
	case reply:
	case m.Type == TypeAcquire && m.Errno != 0:
		return nil
	case m.Type == TypeDelFlow && (m.SA == nil || m.SA.Flags&klips.FlagClearFlow == 0):
		r.required |= extFlows
	case m.Type == TypeGroupSA && have&extSecond != 0:
		r.required |= extSecond
	}
	if missing := r.required &^ have; missing != 0 {
		return &Error{syscall.EINVAL, 0, extOf(missing), "is missing"}
	}
	return nil
}

// extOf returns the lowest extension of a set.
func extOf(set uint64) ExtType {
	return ExtType(bits.TrailingZeros64(set))
}

// checkAdd checks a new SA as KLIPS does, except for its algorithms.
func checkAdd(m *Message) *Error {
	sa := m.SA
	var why string
	switch {
	case sa.State != klips.Mature:
		why = "state is not mature"
	case sa.SPI < klips.MinSPI:
		why = "SPIs below 0x100 are reserved"
	case m.SAType == SATypeAH && sa.Auth == alg.AuthNone:
		why = "AH without authentication"
	case m.SAType == SATypeAH && sa.Encrypt != 0:
		why = "AH with encryption"
	case m.SAType == SATypeESP && alg.Enc(sa.Encrypt) == alg.EncNone:
		why = "ESP without an encryption algorithm"
	case m.SAType == SATypeESP && alg.Enc(sa.Encrypt) == alg.Null && sa.Auth == alg.AuthNone:
		why = "ESP with neither encryption nor authentication"
	case m.SAType == SATypeComp && alg.Comp(sa.Encrypt) == alg.CompNone:
		why = "compression without an algorithm"
	case m.SAType == SATypeComp && sa.Auth != alg.AuthNone:
		why = "compression with authentication"
	default:
		return nil
	}
	return &Error{syscall.EINVAL, 0, ExtSA, why}
}

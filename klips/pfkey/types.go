package pfkey

import (
	"fmt"

	"github.com/klips-go/ipsec/klips"
)

// version is PF_KEY_V2.
const version = 2

// A Type is a message type. KLIPS' are below 20, private ones start at [FirstPrivate].
type Type uint8

// Message types of RFC 2367 section 3.1 and of KLIPS.
const (
	TypeGetSPI      Type = 1  // SADB_GETSPI
	TypeUpdate      Type = 2  // SADB_UPDATE
	TypeAdd         Type = 3  // SADB_ADD
	TypeDelete      Type = 4  // SADB_DELETE
	TypeGet         Type = 5  // SADB_GET
	TypeAcquire     Type = 6  // SADB_ACQUIRE
	TypeRegister    Type = 7  // SADB_REGISTER
	TypeExpire      Type = 8  // SADB_EXPIRE
	TypeFlush       Type = 9  // SADB_FLUSH
	TypeDump        Type = 10 // SADB_DUMP
	TypePromisc     Type = 11 // SADB_X_PROMISC
	TypePChange     Type = 12 // SADB_X_PCHANGE
	TypeGroupSA     Type = 13 // SADB_X_GRPSA
	TypeAddFlow     Type = 14 // SADB_X_ADDFLOW
	TypeDelFlow     Type = 15 // SADB_X_DELFLOW
	TypeDebug       Type = 16 // SADB_X_DEBUG
	TypeNATTMapping Type = 17 // SADB_X_NAT_T_NEW_MAPPING
	TypePlumbIf     Type = 18 // SADB_X_PLUMBIF
	TypeUnplumbIf   Type = 19 // SADB_X_UNPLUMBIF

	maxType = TypeUnplumbIf
)

// String returns the name without its SADB_ prefix.
func (t Type) String() string {
	names := [...]string{
		TypeGetSPI: "GETSPI", TypeUpdate: "UPDATE", TypeAdd: "ADD", TypeDelete: "DELETE", TypeGet: "GET",
		TypeAcquire: "ACQUIRE", TypeRegister: "REGISTER", TypeExpire: "EXPIRE", TypeFlush: "FLUSH",
		TypeDump: "DUMP", TypePromisc: "X_PROMISC", TypePChange: "X_PCHANGE", TypeGroupSA: "X_GRPSA",
		TypeAddFlow: "X_ADDFLOW", TypeDelFlow: "X_DELFLOW", TypeDebug: "X_DEBUG",
		TypeNATTMapping: "X_NAT_T_NEW_MAPPING", TypePlumbIf: "X_PLUMBIF", TypeUnplumbIf: "X_UNPLUMBIF",
	}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("type(%#x)", uint8(t))
}

// An SAType names a protocol in PF_KEY's own numbering. It is also the body of
// the extension SATYPE2.
type SAType uint8

// SA types (SADB_SATYPE_*). Those between AH and IPIP that are missing here
// have no protocol in KLIPS.
const (
	SATypeUnspec SAType = 0
	SATypeAH     SAType = 2
	SATypeESP    SAType = 3
	SATypeIPIP   SAType = 9
	SATypeComp   SAType = 10
	SATypeInt    SAType = 11

	// MaxSAType is the highest SA type.
	MaxSAType = SATypeInt
)

// SATypeOf returns the SA type of a protocol; SATypeUnspec for those that have
// none.
func SATypeOf(p klips.Proto) SAType {
	switch p {
	case klips.ProtoAH:
		return SATypeAH
	case klips.ProtoESP:
		return SATypeESP
	case klips.ProtoTun:
		return SATypeIPIP
	case klips.ProtoComp:
		return SATypeComp
	case klips.ProtoInt:
		return SATypeInt
	}
	return SATypeUnspec
}

// Proto returns the protocol of an SA type and whether it has one.
func (s SAType) Proto() (klips.Proto, bool) {
	switch s {
	case SATypeAH:
		return klips.ProtoAH, true
	case SATypeESP:
		return klips.ProtoESP, true
	case SATypeIPIP:
		return klips.ProtoTun, true
	case SATypeComp:
		return klips.ProtoComp, true
	case SATypeInt:
		return klips.ProtoInt, true
	}
	return 0, false
}

// String returns the name without its SADB_SATYPE_ prefix.
func (s SAType) String() string {
	switch s {
	case SATypeUnspec:
		return "UNSPEC"
	case SATypeAH:
		return "AH"
	case SATypeESP:
		return "ESP"
	case SATypeIPIP:
		return "IPIP"
	case SATypeComp:
		return "COMP"
	case SATypeInt:
		return "INT"
	}
	return fmt.Sprintf("satype(%#x)", uint8(s))
}

// An ExtType is the type of an extension. KLIPS' are 1 to 32, private ones start at
// [FirstPrivate].
type ExtType uint16

// Extension types of RFC 2367 section 2.3 and of KLIPS.
const (
	ExtSA              ExtType = 1  // SADB_EXT_SA
	ExtLifetimeCurrent ExtType = 2  // SADB_EXT_LIFETIME_CURRENT
	ExtLifetimeHard    ExtType = 3  // SADB_EXT_LIFETIME_HARD
	ExtLifetimeSoft    ExtType = 4  // SADB_EXT_LIFETIME_SOFT
	ExtSrc             ExtType = 5  // SADB_EXT_ADDRESS_SRC
	ExtDst             ExtType = 6  // SADB_EXT_ADDRESS_DST
	ExtProxy           ExtType = 7  // SADB_EXT_ADDRESS_PROXY
	ExtKeyAuth         ExtType = 8  // SADB_EXT_KEY_AUTH
	ExtKeyEncrypt      ExtType = 9  // SADB_EXT_KEY_ENCRYPT
	ExtIdentSrc        ExtType = 10 // SADB_EXT_IDENTITY_SRC
	ExtIdentDst        ExtType = 11 // SADB_EXT_IDENTITY_DST
	ExtSensitivity     ExtType = 12 // SADB_EXT_SENSITIVITY, carried but always refused
	ExtProposal        ExtType = 13 // SADB_EXT_PROPOSAL
	ExtSupportedAuth   ExtType = 14 // SADB_EXT_SUPPORTED_AUTH
	ExtSupportedEnc    ExtType = 15 // SADB_EXT_SUPPORTED_ENCRYPT
	ExtSPIRange        ExtType = 16 // SADB_EXT_SPIRANGE
	ExtKMPrivate       ExtType = 17 // SADB_X_EXT_KMPRIVATE, carried but always refused
	ExtSAType2         ExtType = 18 // SADB_X_EXT_SATYPE2
	ExtSA2             ExtType = 19 // SADB_X_EXT_SA2
	ExtDst2            ExtType = 20 // SADB_X_EXT_ADDRESS_DST2
	ExtSrcFlow         ExtType = 21 // SADB_X_EXT_ADDRESS_SRC_FLOW
	ExtDstFlow         ExtType = 22 // SADB_X_EXT_ADDRESS_DST_FLOW
	ExtSrcMask         ExtType = 23 // SADB_X_EXT_ADDRESS_SRC_MASK
	ExtDstMask         ExtType = 24 // SADB_X_EXT_ADDRESS_DST_MASK
	ExtDebug           ExtType = 25 // SADB_X_EXT_DEBUG
	ExtProtocol        ExtType = 26 // SADB_X_EXT_PROTOCOL
	ExtNATTType        ExtType = 27 // SADB_X_EXT_NAT_T_TYPE
	ExtNATTSPort       ExtType = 28 // SADB_X_EXT_NAT_T_SPORT
	ExtNATTDPort       ExtType = 29 // SADB_X_EXT_NAT_T_DPORT
	ExtNATTOA          ExtType = 30 // SADB_X_EXT_NAT_T_OA
	ExtPlumbIf         ExtType = 31 // SADB_X_EXT_PLUMBIF
	ExtSARef           ExtType = 32 // SADB_X_EXT_SAREF

	maxExt = ExtSARef
)

// String returns the name without its SADB_ and EXT_ prefixes.
func (t ExtType) String() string {
	names := [...]string{
		ExtSA: "SA", ExtLifetimeCurrent: "LIFETIME_CURRENT", ExtLifetimeHard: "LIFETIME_HARD",
		ExtLifetimeSoft: "LIFETIME_SOFT", ExtSrc: "ADDRESS_SRC", ExtDst: "ADDRESS_DST",
		ExtProxy: "ADDRESS_PROXY", ExtKeyAuth: "KEY_AUTH", ExtKeyEncrypt: "KEY_ENCRYPT",
		ExtIdentSrc: "IDENTITY_SRC", ExtIdentDst: "IDENTITY_DST", ExtSensitivity: "SENSITIVITY",
		ExtProposal: "PROPOSAL", ExtSupportedAuth: "SUPPORTED_AUTH", ExtSupportedEnc: "SUPPORTED_ENCRYPT",
		ExtSPIRange: "SPIRANGE", ExtKMPrivate: "KMPRIVATE", ExtSAType2: "SATYPE2", ExtSA2: "SA2",
		ExtDst2: "ADDRESS_DST2", ExtSrcFlow: "ADDRESS_SRC_FLOW", ExtDstFlow: "ADDRESS_DST_FLOW",
		ExtSrcMask: "ADDRESS_SRC_MASK", ExtDstMask: "ADDRESS_DST_MASK", ExtDebug: "DEBUG",
		ExtProtocol: "PROTOCOL", ExtNATTType: "NAT_T_TYPE", ExtNATTSPort: "NAT_T_SPORT",
		ExtNATTDPort: "NAT_T_DPORT", ExtNATTOA: "NAT_T_OA", ExtPlumbIf: "PLUMBIF", ExtSARef: "SAREF",
	}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("ext(%#x)", uint16(t))
}

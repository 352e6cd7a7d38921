package nlxfrm

import "fmt"

// A Mode is the mode of a state, XFRM_MODE_*.
type Mode uint8

// The modes.
const (
	ModeTransport  Mode = 0
	ModeTunnel     Mode = 1
	ModeRouteOptim Mode = 2
	ModeInTrigger  Mode = 3
	ModeBEET       Mode = 4
)

func (m Mode) String() string {
	return name("mode", int(m), "transport", "tunnel", "ro", "in_trigger", "beet")
}

// A Dir is a policy's direction, XFRM_POLICY_IN, OUT or FWD.
type Dir uint8

// The directions.
const (
	DirIn  Dir = 0
	DirOut Dir = 1
	DirFwd Dir = 2
)

func (d Dir) String() string { return name("dir", int(d), "in", "out", "fwd") }

// An Action is what a policy does with packets, XFRM_POLICY_ALLOW or XFRM_POLICY_BLOCK.
type Action uint8

// The actions.
const (
	Allow Action = 0 // with the templates' transforms, if there are any
	Block Action = 1
)

func (a Action) String() string { return name("action", int(a), "allow", "block") }

// A PolicyType is one of the kernel's two policy databases, XFRM_POLICY_TYPE_*.
type PolicyType uint8

// The policy types. Only kernels with CONFIG_XFRM_SUB_POLICY have the second.
const (
	TypeMain PolicyType = 0
	TypeSub  PolicyType = 1
)

func (t PolicyType) String() string { return name("type", int(t), "main", "sub") }

func name(kind string, n int, names ...string) string {
	if n < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", kind, n)
}

// Flags of a state, XFRM_STATE_*.
const (
	FlagNoECN      uint8 = 1
	FlagDecapDSCP  uint8 = 2
	FlagNoPMTUDisc uint8 = 4 // the outer header's DF bit stays clear
	FlagWildRecv   uint8 = 8
	FlagICMP       uint8 = 16
	FlagAFUnspec   uint8 = 32  // a tunnel that carries both families
	FlagAlign4     uint8 = 64  // AH over IPv4 aligned to 4 bytes (RFC 4302), not Linux' 8
	FlagESN        uint8 = 128 // extended sequence numbers; needs ReplayESN
)

// Extra flags of a state, XFRM_SA_XFLAG_*.
const (
	ExtraDontEncapDSCP uint32 = 1
	ExtraOSeqMayWrap   uint32 = 2
)

// An SADir is the only direction of a state's packets, XFRM_SA_DIR_*.
type SADir uint8

// The directions of states. SABoth is that of a state without one.
const (
	SABoth SADir = 0
	SAIn   SADir = 1
	SAOut  SADir = 2
)

// Flags of a policy, XFRM_POLICY_*.
const (
	PolicyLocalOK uint8 = 1 // sockets may have their own policy instead
	PolicyICMP    uint8 = 2 // the selector also matches ICMP errors about its packets
)

// Flags of an offload, XFRM_OFFLOAD_*.
const (
	OffloadInbound uint8 = 2
	OffloadPacket  uint8 = 4 // headers and replay too, not only the cipher
)

// Types of encapsulation, UDP_ENCAP_* of <linux/udp.h>.
const (
	EncapESPInUDPNonIKE uint16 = 1 // gone from newer kernels
	EncapESPInUDP       uint16 = 2 // RFC 3948
)

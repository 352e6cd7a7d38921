package klips

import "strings"

// A Fault is what is wrong with a request ([OpError]) or with a stack
// ([UnavailableError]), in more detail than an errno. The commands have a remedy for
// each.
type Fault uint8

// The faults.
const (
	FaultNone Fault = iota
	// FaultDestination: an SA whose destination is 0.0.0.0 or ::. The destination is a
	// part of an SA's name (RFC 4301 section 4.1).
	FaultDestination
	// FaultCPI: a comp SA whose SPI has more than 16 bits; a CPI has 16 bits on the
	// wire (RFC 3173 section 3.3).
	FaultCPI
	// FaultEncapsulation: UDP encapsulation of an SA that is not ESP (RFC 3948 section
	// 1).
	FaultEncapsulation
	// FaultMast: a mast device, which only a KLIPS kernel has.
	FaultMast
	// FaultFlow6: an IPv6 eroute with a protocol or ports, on a KLIPS kernel. KLIPS
	// stores the protocol in the source address, so the eroute would match other
	// packets.
	FaultFlow6
	// FaultAlgorithm: a KLIPS kernel accepts the SA but has no such algorithm for its
	// protocol, and drops its packets.
	FaultAlgorithm
	// FaultAH6: a KLIPS kernel accepts AH over IPv6 and drops its packets.
	FaultAH6
	// FaultAlign8: a KLIPS kernel pads AH headers over IPv4 only to 4 bytes.
	FaultAlign8
	// FaultCopyTOS: a KLIPS kernel copies the TOS of packets to the outer headers of all
	// tunnels or of none.
	FaultCopyTOS
	// FaultNoEffect: a KLIPS kernel reported success, but nothing changed.
	FaultNoEffect
	// FaultKeyUsed: an outbound SA with the combined-mode key and salt of another
	// outbound SA. A nonce must not be used twice with one key: that reveals the
	// content of packets and allows forgery (RFC 4106 sections 2 and 3.1, RFC 7634
	// section 2). The errno is EKEYREJECTED; OpError.Other is the other SA.
	FaultKeyUsed
	// FaultNoNumbers: an SA with a key whose sequence numbers are all used, according
	// to its mark; they must not cycle (RFC 4303 section 3.3.3). The errno is
	// EKEYEXPIRED.
	FaultNoNumbers

	// FaultOffload: offload to a network device for an SA that is not ESP.
	FaultOffload
	// FaultOffloadDevice: the network device does not exist.
	FaultOffloadDevice
	// FaultOffloadRefused: the network device or its driver refused the offload.
	FaultOffloadRefused
	// FaultDirect: the stack is the kernel's, whose packets pass its IP output.
	FaultDirect
	// FaultAlso: further SAs of an eroute, on a stack whose kernel chooses one SA for all
	// packets of a policy.
	FaultAlso
	// FaultAlsoMany: more further SAs than MaxAlso.
	FaultAlsoMany
	// FaultAlsoShunt: a shunt among several SAs of an eroute.
	FaultAlsoShunt
	// FaultAlsoPeer: a further SA with another destination than the first one.
	FaultAlsoPeer
	// FaultAlsoTwice: an SA that an eroute names twice.
	FaultAlsoTwice
	// FaultTunnelSource: an outbound tunnel without a source address, on stack xfrm,
	// whose kernel does not choose one.
	FaultTunnelSource
	// FaultGroupsAlike: stack xfrm cannot distinguish packets from this group and from
	// another one, and their inbound policies differ.
	FaultGroupsAlike
	// FaultNoDevice: a request to KLIPS needs a virtual device, and there is none.
	FaultNoDevice
	// FaultDeviceGone: a request to KLIPS needs a virtual device, and the kernel does
	// not find those in its table.
	FaultDeviceGone
	// FaultDetached: a request to KLIPS needs an attached virtual device, and none is
	// attached.
	FaultDetached

	// Reasons why a stack cannot be used.

	// FaultNoStack: none of the stacks can be used.
	FaultNoStack
	// FaultNoDaemon: no daemon of the embedded stack runs.
	FaultNoDaemon
	// FaultDaemonRights: the daemon runs, but this user may not connect to it.
	FaultDaemonRights
	// FaultDaemonUser: an untrusted user listens on the daemon's socket.
	FaultDaemonUser
	// FaultNoKLIPS: the kernel has no KLIPS.
	FaultNoKLIPS
	// FaultNoModules: the kernel has no KLIPS, and cannot load modules.
	FaultNoModules
	// FaultLoadRights: the kernel has no KLIPS, and this user may not load modules.
	FaultLoadRights
	// FaultLoad: KLIPS' module cannot be loaded.
	FaultLoad
	// FaultNoPFKey: the kernel has no PF_KEY sockets.
	FaultNoPFKey
	// FaultPFKeyVersion: the kernel has PF_KEY of another version than 2 (RFC 2367).
	FaultPFKeyVersion
	// FaultPFKeyRights: this user may not open a PF_KEY socket.
	FaultPFKeyRights
	// FaultPFKeyMemory: the kernel has no memory for a PF_KEY socket.
	FaultPFKeyMemory
	// FaultFiles: this process, or the system, has too many open files.
	FaultFiles
	// FaultSocketPath: the path of the socket that replaces PF_KEY is too long.
	FaultSocketPath
	// FaultSocketSilent: no process listens on the socket that replaces PF_KEY.
	FaultSocketSilent
	// FaultSocketUser: an untrusted user listens on the socket that replaces PF_KEY.
	FaultSocketUser
	// FaultNoXFRM: the kernel has no XFRM.
	FaultNoXFRM
	// FaultXFRMRights: this user may not use XFRM.
	FaultXFRMRights
	// FaultNoESP: the kernel has XFRM without ESP.
	FaultNoESP
	// FaultNoInterfaceIDs: the kernel has XFRM without interface IDs of policies.
	FaultNoInterfaceIDs

	// Reasons why a run directory of the embedded stack's daemon cannot be used.

	// FaultRundirLong: its path is too long for the address of a socket in it.
	FaultRundirLong
	// FaultRundirRelative: its path is relative, and there is no working directory.
	FaultRundirRelative
	// FaultRundirLink: it is a symbolic link.
	FaultRundirLink
	// FaultRundirKind: it, or a part of its path, is not a directory.
	FaultRundirKind
	// FaultRundirOwner: it belongs to an untrusted user.
	FaultRundirOwner
	// FaultRundirMode: untrusted users may write to it.
	FaultRundirMode
	// FaultRundirShared: all users may create files in it, as in /tmp.
	FaultRundirShared
	// FaultRundirFile: a file in it has the wrong type or owner.
	FaultRundirFile
)

// maxCPI is the largest compression parameter index (RFC 3173 section 3.3).
const maxCPI = 0xffff

// faultWords are the texts for Go programs; they do not mention command lines.
var faultWords = [...]string{
	FaultNone:          "none",
	FaultDestination:   "unspecified destination",
	FaultCPI:           "CPI of more than 16 bits",
	FaultEncapsulation: "UDP encapsulation of a protocol other than ESP",
	FaultMast:          "mast device",
	FaultFlow6:         "IPv6 eroute with a protocol",
	FaultAlgorithm:     "algorithm that the kernel lacks",
	FaultAH6:           "AH over IPv6",
	FaultAlign8:        "AH headers padded to 8 bytes",
	FaultCopyTOS:       "TOS copied to the outer headers of one tunnel",
	FaultNoEffect:      "the kernel has done nothing",
	FaultKeyUsed:       "key of a combined mode that another outbound SA has",
	FaultNoNumbers:     "key without sequence numbers left",

	FaultOffload:        "offload of a protocol other than ESP",
	FaultOffloadDevice:  "no such network device for offload",
	FaultOffloadRefused: "the network device does not take the work",
	FaultDirect:         "packets past the IP output of the kernel",
	FaultAlso:           "several SAs for the packets of one eroute",
	FaultAlsoMany:       "more SAs than an eroute can have",
	FaultAlsoShunt:      "shunt among the SAs of an eroute",
	FaultAlsoPeer:       "SAs of one eroute with different destinations",
	FaultAlsoTwice:      "SA that an eroute names twice",
	FaultTunnelSource:   "tunnel without a source address",
	FaultGroupsAlike:    "the kernel cannot tell what comes out of this group from what comes out of another one",
	FaultNoDevice:       "there is no virtual device",
	FaultDeviceGone:     "the kernel does not find its virtual devices",
	FaultDetached:       "no virtual device is attached",

	FaultNoStack:        "no stack can be used",
	FaultNoDaemon:       "no daemon runs",
	FaultDaemonRights:   "no permission to talk to the daemon",
	FaultDaemonUser:     "another user answers in the daemon's place",
	FaultNoKLIPS:        "this kernel has no KLIPS",
	FaultNoModules:      "this kernel has no KLIPS, and loads no modules",
	FaultLoadRights:     "this kernel has no KLIPS, and only root can load its module",
	FaultLoad:           "this kernel has no KLIPS, and its module cannot be loaded",
	FaultNoPFKey:        "this kernel has no PF_KEY",
	FaultPFKeyVersion:   "the PF_KEY of this kernel is not of version 2",
	FaultPFKeyRights:    "no permission to open a PF_KEY socket",
	FaultPFKeyMemory:    "the kernel has no memory left for a PF_KEY socket",
	FaultFiles:          "too many open files",
	FaultSocketPath:     "the path of the PF_KEY socket is too long",
	FaultSocketSilent:   "nobody answers at the PF_KEY socket",
	FaultSocketUser:     "another user answers at the PF_KEY socket",
	FaultNoXFRM:         "this kernel has no IPsec (XFRM)",
	FaultXFRMRights:     "no permission to use the kernel's IPsec",
	FaultNoESP:          "this kernel has no ESP",
	FaultNoInterfaceIDs: "this kernel has no interface IDs of policies",

	FaultRundirLong:     "the path is too long",
	FaultRundirRelative: "the path is relative, and the working directory is gone",
	FaultRundirLink:     "it is a symbolic link, which is not followed",
	FaultRundirKind:     "it is not a directory",
	FaultRundirOwner:    "the directory belongs to another user, who could take the daemon's place",
	FaultRundirMode:     "other users may write to the directory, and could take the daemon's place",
	FaultRundirShared:   "all users may write to the directory, and could take the daemon's place",
	FaultRundirFile:     "it is not what the daemon makes",
}

// Faults returns all faults, without FaultNone.
func Faults() (all []Fault) {
	for f := range faultWords {
		all = append(all, Fault(f))
	}
	return all[1:]
}

// String returns what is wrong, in a few words without the object.
func (f Fault) String() string {
	if int(f) < len(faultWords) {
		return faultWords[f]
	}
	return "unknown fault"
}

// Fault returns a fault that the stacks user and xfrm refuse although a KLIPS kernel
// accepts it: FaultDestination, FaultCPI, FaultEncapsulation, or else FaultNone. It
// ignores algorithms and keys, see [SASpec.Check].
func (s *SASpec) Fault() Fault {
	switch {
	case s.ID.Dst.IsValid() && s.ID.Dst.IsUnspecified():
		return FaultDestination
	case s.ID.Proto == ProtoComp && s.ID.SPI > maxCPI:
		return FaultCPI
	case s.NATT.Type != NATTNone && s.ID.Proto != ProtoESP:
		return FaultEncapsulation
	}
	return FaultNone
}

// DeviceFault returns FaultMast for the name of a mast device, else FaultNone. It is
// for stacks without mast devices.
func DeviceFault(name string) Fault {
	if strings.HasPrefix(name, "mast") {
		return FaultMast
	}
	return FaultNone
}

// WithPorts returns n with the default ports of its type in place of zero ports: 4500
// for NATTNonESP (RFC 3948 section 2.1) and 500 for NATTNonIKE
// (draft-ietf-ipsec-udp-encaps-02). NATTNone is not changed.
func (n NATT) WithPorts() NATT {
	var port uint16
	switch n.Type {
	case NATTNonESP:
		port = 4500
	case NATTNonIKE:
		port = 500
	default:
		return n
	}
	if n.SPort == 0 {
		n.SPort = port
	}
	if n.DPort == 0 {
		n.DPort = port
	}
	return n
}

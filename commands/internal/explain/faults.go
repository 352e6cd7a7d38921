package explain

import (
	"os"

	"github.com/klips-go/ipsec/klips"
)

// otherSA stands for the SA that is in the way, in the texts of faults.
const otherSA = "another SA"

// faults are the words for a fault, for stacks that return only its code.
var faults = [...]string{
	klips.FaultDestination:   "an SA needs the address of one host or group as its destination",
	klips.FaultCPI:           "the SPI of a comp SA is a CPI, which has 16 bits (RFC 3173): take one of 0x100 to 0xffff",
	klips.FaultEncapsulation: "UDP encapsulation is for ESP only (RFC 3948): leave --natt out, or make an esp SA",
	klips.FaultFlow6:         "a KLIPS kernel stores the protocol of an IPv6 eroute in its source address, so that it would take other packets; leave protocol and ports out, or take another stack (--stack)",
	klips.FaultMast:          "this stack has no mast devices, only ipsec0 to ipsec63; stack klips may have them (--stack)",
	klips.FaultAlgorithm:     "the kernel takes it and drops its packets, because it has no such algorithm for this protocol (ipsec setup status lists what it has)",
	klips.FaultAH6:           "the kernel takes AH over IPv6 and drops its packets; an esp SA with authentication works",
	klips.FaultAlign8:        "a KLIPS kernel pads AH headers to 4 bytes alone: leave --align8 out, or take another stack (--stack)",
	klips.FaultCopyTOS:       "a KLIPS kernel copies the TOS to the outer headers of all tunnels or of none: leave --copy-tos out and set the knob (ipsec setup set tos=0), or take another stack (--stack)",
	klips.FaultNoEffect:      "the kernel answered that it is done, and nothing has changed",
	klips.FaultKeyUsed: otherSA + " sends with this key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): " +
		"make another key with ipsec ranbits, or in a laboratory allow it with ipsec spi --insecure-reuse",
	klips.FaultNoNumbers:    "all sequence numbers of this key have been used, and none may be used twice (RFC 4303 section 3.3.3): take a new key, or give an SA numbers of 64 bits at both ends (--esn)",
	klips.FaultOffload:      "network devices take the work of esp SAs only: leave --offload out",
	klips.FaultDirect:       "a stack of the kernel sends packets by its IP output alone: leave --direct out; stack user can do it (--stack)",
	klips.FaultAlso:         "this kernel chooses one SA for all packets of an eroute (stack xfrm has several since Linux 6.13): leave --also out and make an eroute for each part of the network, or take stack user (--stack)",
	klips.FaultAlsoMany:     "an eroute can have 15 further SAs at most: leave it out",
	klips.FaultAlsoShunt:    "a shunt takes all packets of its eroute, and does not go with SAs: leave it out, or leave --also out",
	klips.FaultAlsoPeer:     "the SAs of one eroute go to one peer, so all have the destination of the first: leave it out, or make another eroute for it",
	klips.FaultAlsoTwice:    "an eroute names each of its SAs once: leave it out",
	klips.FaultTunnelSource: "this kernel does not choose the source of a tunnel: name it when the tun SA is made (--src); stack user can do it",
	klips.FaultGroupsAlike: "this kernel cannot tell what comes out of its group from what comes out of others: give its tun SA an inbound policy of its own before it is grouped (eroute --addin); " +
		"stack user can do it",
	klips.FaultNoDevice:   "KLIPS is asked by a virtual device, and there is none; make one with ipsec tncfg --create ipsec1, and attach it",
	klips.FaultDeviceGone: "KLIPS is asked by a virtual device, and the kernel has none of those that ipsec tncfg lists",
	klips.FaultDetached:   "KLIPS is asked by a virtual device, and none is attached; attach one with ipsec tncfg --attach",
}

// Fault returns the words for a fault; empty for FaultNone.
func Fault(f klips.Fault) string {
	if int(f) < len(faults) {
		return faults[f]
	}
	return ""
}

// remedies are the advice for faults whose description comes from the stack.
var remedies = [...]string{
	klips.FaultOffloadDevice:  "--offload takes one of those that ip link shows",
	klips.FaultOffloadRefused: "leave --offload out",

	klips.FaultNoStack:        "start the embedded one with: ipsec setup start",
	klips.FaultNoDaemon:       "start one with: ipsec setup start",
	klips.FaultDaemonRights:   "run this as the user who started it, or as root",
	klips.FaultDaemonUser:     "nothing was sent; set IPSEC_RUNDIR to another directory",
	klips.FaultNoKLIPS:        "load its module (modprobe ipsec), or use another stack (--stack)",
	klips.FaultNoModules:      "use another stack (--stack)",
	klips.FaultLoadRights:     "run it as root",
	klips.FaultLoad:           "install the module for this kernel (it does not go together with af_key), or use another stack (--stack)",
	klips.FaultNoPFKey:        "load KLIPS (modprobe ipsec), or use another stack (--stack)",
	klips.FaultPFKeyVersion:   "use another stack (--stack)",
	klips.FaultPFKeyRights:    "run it as root (CAP_NET_ADMIN and CAP_NET_RAW are needed)",
	klips.FaultPFKeyMemory:    "free some",
	klips.FaultFiles:          "raise the limit (ulimit -n)",
	klips.FaultSocketPath:     "set IPSEC_PFKEY_SOCKET to a shorter path",
	klips.FaultSocketSilent:   "start what serves it, or unset IPSEC_PFKEY_SOCKET",
	klips.FaultSocketUser:     "nothing was sent; set IPSEC_PFKEY_SOCKET to another path",
	klips.FaultNoXFRM:         "load the module xfrm_user (CONFIG_XFRM_USER), or use another stack (--stack)",
	klips.FaultXFRMRights:     "run this as root (CAP_NET_ADMIN is needed)",
	klips.FaultNoESP:          "load the module esp4 (CONFIG_INET_ESP), or use another stack (--stack)",
	klips.FaultNoInterfaceIDs: "they came with Linux 4.19; use another stack (--stack)",

	klips.FaultRundirLong:     "set IPSEC_RUNDIR to a shorter path",
	klips.FaultRundirRelative: "set IPSEC_RUNDIR to an absolute path",
	klips.FaultRundirLink:     "set IPSEC_RUNDIR to the directory itself",
	klips.FaultRundirKind:     "set IPSEC_RUNDIR to one",
	klips.FaultRundirOwner:    "run this as that user, or set IPSEC_RUNDIR to a directory of your own",
	klips.FaultRundirMode:     "take that right away (chmod go-w), or set IPSEC_RUNDIR to a directory of your own",
	klips.FaultRundirShared:   "set IPSEC_RUNDIR to a directory of your own",
	klips.FaultRundirFile:     "remove it",
}

// remedy returns the advice for a fault, to follow its description; empty if there is
// none.
func remedy(f klips.Fault) string {
	switch {
	case f == klips.FaultDaemonRights && os.Geteuid() == 0:
		return "run this with the capabilities of root"
	case int(f) < len(remedies):
		return remedies[f]
	}
	return ""
}

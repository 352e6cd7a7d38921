package explain

import (
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

type key struct {
	op    Op
	errno syscall.Errno
}

// Texts that several operations share.
const (
	noSuchSA     = "no such SA; ipsec spi lists those that exist"
	noPart       = "the stack does not find an algorithm it needs; take another one, or another stack (--stack)"
	noGroupSA    = "no such SA; make it first with ipsec spi (ipsec spi lists those that exist)"
	noPolicySA   = "there is no such SA, or no tun SA follows it in its group; on this stack an inbound policy belongs to a tun SA (see ipsec spigrp)"
	noEroute     = "no eroute has exactly these addresses, masks, protocol and ports; ipsec eroute lists those that exist"
	noDevice     = "no such device; ipsec tncfg lists those that exist, ipsec tncfg --create makes one"
	tooManyRefs  = "the stack has no SA reference left; remove SAs that are not needed (ipsec spi --del)"
	badRefs      = "the stack's table of SA references is not consistent; stop and start the stack (ipsec setup restart)"
	deviceNumber = "the number is too large; devices are ipsec0 to ipsec63"
)

// texts are the meanings that an errno has for one operation.
var texts = map[key]string{
	{AddSA, syscall.EEXIST}:          "an SA with this SAID exists; remove it first with ipsec spi --del, or take another SPI",
	{AddSA, syscall.EINVAL}:          "the stack does not take an SA with these algorithms, keys, window and SPI; check them with ipsec spi --help",
	{AddSA, syscall.EPROTO}:          "the stack does not know the cipher; take another one (--esp), or another stack (--stack)",
	{AddSA, syscall.EPROTONOSUPPORT}: "the stack does not know the protocol or an algorithm; on a stock kernel load its module (esp4, ah4, ipcomp, or esp6, ah6, ipcomp6)",
	{AddSA, syscall.ENOSYS}:          "the stack does not know the algorithm; take another one, or another stack (--stack)",
	{AddSA, syscall.ENOSPC}:          tooManyRefs,
	{AddSA, syscall.ESPIPE}:          badRefs,

	{DeleteSA, syscall.ESRCH}:  noSuchSA,
	{DeleteSA, syscall.ENOENT}: noSuchSA,
	{DeleteSA, syscall.ENXIO}:  noSuchSA,
	{GetSA, syscall.ESRCH}:     noSuchSA,
	{GetSA, syscall.ENOENT}:    noSuchSA,
	{GetSA, syscall.ENXIO}:     noSuchSA,

	{Group, syscall.ENOENT}:   noGroupSA,
	{Group, syscall.ESRCH}:    noGroupSA,
	{Group, syscall.ENXIO}:    noGroupSA,
	{Group, syscall.EEXIST}:   "already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)",
	{Group, syscall.EINVAL}:   "the stack does not take these SAs as a group; name two to four, from the innermost (tun) to the outermost (ah)",
	{Ungroup, syscall.ENOENT}: "no such SA; ipsec spigrp lists the groups",
	{Ungroup, syscall.ESRCH}:  "no such SA; ipsec spigrp lists the groups",
	{Ungroup, syscall.ENXIO}:  "no such SA; ipsec spigrp lists the groups",

	{AddEroute, syscall.EEXIST}:     "there is an eroute with these addresses, masks, protocol and ports; use --replace, or remove it first with --del",
	{AddEroute, syscall.ENOENT}:     noSuchSA,
	{AddEroute, syscall.ESRCH}:      noSuchSA,
	{AddEroute, syscall.ENXIO}:      "the stack does not take the masks; they are one run of bits from the left",
	{AddEroute, syscall.EFAULT}:     "the stack does not take the addresses; both are of one family",
	{ReplaceEroute, syscall.EEXIST}: "there is an eroute with these addresses, masks, protocol and ports; remove it first with --del",
	{ReplaceEroute, syscall.ENOENT}: noEroute + "; add it with --add",
	{ReplaceEroute, syscall.EFAULT}: noEroute + "; add it with --add",
	{ReplaceEroute, syscall.ENXIO}:  "the stack does not take the masks; they are one run of bits from the left",
	{ReplaceEroute, syscall.ESRCH}:  noSuchSA,
	{SetPolicy, syscall.ENOENT}:     noPolicySA,
	{SetPolicy, syscall.ESRCH}:      noPolicySA,
	{SetPolicy, syscall.ENXIO}:      noPolicySA,
	{SetPolicy, syscall.EFAULT}:     noPolicySA,
	{DeleteEroute, syscall.ENOENT}:  noEroute,
	{DeleteEroute, syscall.EFAULT}:  noEroute,
	{DeleteEroute, syscall.ENXIO}:   noEroute,
	{DeleteEroute, syscall.ESRCH}:   noEroute,

	{Attach, syscall.ENODEV}:         "no such virtual device; ipsec tncfg lists those that exist, ipsec tncfg --create makes one",
	{Attach, syscall.ENXIO}:          "no such physical device; ip link lists those that exist",
	{Attach, syscall.EBUSY}:          "attached to a physical device already; detach it first with ipsec tncfg --detach --virtual and its name",
	{Attach, syscall.EOPNOTSUPP}:     "this is not a virtual device of the stack; those are ipsec0 to ipsec63",
	{Attach, syscall.ENAMETOOLONG}:   "KLIPS takes names of at most 11 characters for physical devices and 15 for virtual ones; name the device anew (ip link set DEV name NEW)",
	{Attach, syscall.EINVAL}:         "the stack does not attach this pair; the virtual device is an ipsecN, the physical one is not",
	{Detach, syscall.ENODEV}:         "no such device, or it is not attached; ipsec tncfg lists the devices",
	{Detach, syscall.ENXIO}:          "it is not attached to a physical device; ipsec tncfg lists the devices",
	{Detach, syscall.EOPNOTSUPP}:     "this is not a virtual device of the stack; those are ipsec0 to ipsec63",
	{DetachAll, syscall.ENODEV}:      "the stack has no virtual device; is it running? (ipsec setup status)",
	{CreateDevice, syscall.EEXIST}:   "it exists already; ipsec tncfg lists the devices",
	{CreateDevice, syscall.ENOENT}:   deviceNumber,
	{CreateDevice, syscall.EINVAL}:   deviceNumber,
	{CreateDevice, syscall.ENODEV}:   "the system has no TUN devices; load the module tun, and in a container pass /dev/net/tun in",
	{DeleteDevice, syscall.ENOENT}:   noDevice,
	{DeleteDevice, syscall.ENODEV}:   noDevice,
	{DeleteDevice, syscall.EBUSY}:    "it is attached; detach it first with ipsec tncfg --detach --virtual and its name",
	{DeleteDevice, syscall.ENXIO}:    noDevice,
	{List, syscall.ENOENT}:           "the stack has no such table; is it running? (ipsec setup status)",
	{SetDebug, syscall.EOPNOTSUPP}:   "this stack has no debug masks; ipsec version names the stack",
	{ClearSAs, syscall.ENOENT}:       "the stack is not there; is it running? (ipsec setup status)",
	{ClearEroutes, syscall.ENOENT}:   "the stack is not there; is it running? (ipsec setup status)",
	{DetachAll, syscall.EOPNOTSUPP}:  "ipsec0 is not a virtual device of the stack",
	{SetDebug, syscall.ENOENT}:       "the stack is not there; is it running? (ipsec setup status)",
	{CreateDevice, syscall.ENXIO}:    "the stack is not there; is it running? (ipsec setup status)",
	{ClearEroutes, syscall.EFAULT}:   "the stack has lost an eroute; stop and start it (ipsec setup restart)",
	{DeleteSA, syscall.EOPNOTSUPP}:   "the stack removes no SAs of this kind; see ipsec version for which stack it is",
	{Group, syscall.EOPNOTSUPP}:      "the stack has no groups of this kind; see ipsec version for which stack it is",
	{SetPolicy, syscall.EOPNOTSUPP}:  "the stack has no inbound policies of this kind; see ipsec version for which stack it is",
	{AddEroute, syscall.EOPNOTSUPP}:  "the stack has no eroutes of this kind; see ipsec version for which stack it is",
	{AddEroute, syscall.EINVAL}:      "the stack does not take this eroute; check addresses, protocol, ports and SAID",
	{SetPolicy, syscall.EINVAL}:      "the stack does not take this inbound policy; without a tun SA, the addresses are of the same family as the SA",
	{DeleteEroute, syscall.EINVAL}:   "the stack does not take these addresses, masks, protocol and ports",
	{ReplaceEroute, syscall.EINVAL}:  "the stack does not take this eroute; check addresses, protocol, ports and SAID",
	{SetDebug, syscall.EINVAL}:       "the stack does not take these masks",
	{DeleteDevice, syscall.EINVAL}:   deviceNumber,
	{CreateDevice, syscall.EBUSY}:    "another program has this device",
	{CreateDevice, syscall.ENOMEM}:   "the system has no memory left for the device",
	{CreateDevice, syscall.EIO}:      "the system did not register the device; its log (dmesg) may say why",
	{CreateDevice, syscall.ENOSPC}:   deviceNumber,
	{DeleteDevice, syscall.ESRCH}:    noDevice,
	{ReplaceEroute, syscall.ENOSPC}:  tooManyRefs,
	{AddEroute, syscall.ENOSPC}:      tooManyRefs,
	{Group, syscall.ENOSPC}:          tooManyRefs,
	{Group, syscall.ESPIPE}:          badRefs,
	{DeleteSA, syscall.ENOSPC}:       tooManyRefs,
	{DeleteSA, syscall.ESPIPE}:       badRefs,
	{AddSA, syscall.EAFNOSUPPORT}:    "the stack does not know the address family; is IPv6 switched off?",
	{AddSA, syscall.EPFNOSUPPORT}:    "the stack does not know the address family; is IPv6 switched off?",
	{AddSA, syscall.ESOCKTNOSUPPORT}: "the stack was built without the algorithm; take another one, or another stack (--stack)",
	{AddSA, syscall.ENXIO}:           noPart,
	{AddSA, syscall.ENOENT}:          noPart,
	{AddSA, syscall.ESRCH}:           noPart,
}

// otherSA stands in faults for the SA that is in the way.
const otherSA = "another SA"

// faults are the words for what is wrong with a request on any stack that tells.
var faults = [...]string{
	klips.FaultDestination:   "an SA needs the address of one host or group as its destination",
	klips.FaultCPI:           "the SPI of a comp SA is a CPI, which has 16 bits (RFC 3173): take one of 0x100 to 0xffff",
	klips.FaultEncapsulation: "UDP encapsulation is for ESP only (RFC 3948): leave --natt out, or make an esp SA",
	klips.FaultFlow6:         "a KLIPS kernel stores the protocol of an IPv6 eroute in its source address, so that it would take other packets; leave protocol and ports out, or take another stack (--stack)",
	klips.FaultMast:          "this stack has no mast devices, only ipsec0 to ipsec63; stack klips may have them (--stack)",
	klips.FaultAlgorithm:     "the kernel takes it and drops its packets, because it has no such algorithm for this protocol (ipsec setup status lists what it has)",
	klips.FaultAH6:           "the kernel takes AH over IPv6 and drops its packets; an esp SA with authentication works",
	klips.FaultNoEffect:      "the kernel answered that it is done, and nothing has changed",
	klips.FaultKeyUsed: otherSA + " sends with this key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): " +
		"make another key with ipsec ranbits, or in a laboratory allow it with ipsec spi --insecure-reuse",
	klips.FaultNoNumbers: "all sequence numbers of this key have been used, and none may be used twice (RFC 4303 section 3.3.3): take a new key, or give an SA numbers of 64 bits at both ends (--esn)",
}

// Fault returns the words for what is wrong with a request; empty for FaultNone.
func Fault(f klips.Fault) string { return faults[f] }

// common are the meanings that an errno has for all other operations.
var common = map[syscall.Errno]string{
	syscall.EPERM:           "not permitted; run it as root (CAP_NET_ADMIN is needed)",
	syscall.EACCES:          "not permitted; run it as root (CAP_NET_ADMIN is needed)",
	syscall.EUNATCH:         "no stack answers; is it running? (ipsec setup status)",
	syscall.ENODEV:          "no stack answers; is it running? (ipsec setup status)",
	syscall.EAFNOSUPPORT:    "the kernel has no PF_KEY sockets; use the embedded stack (ipsec setup start)",
	syscall.EPFNOSUPPORT:    "the stack does not know the address family",
	syscall.EPROTONOSUPPORT: "the stack does not know the protocol",
	syscall.ESOCKTNOSUPPORT: "the stack was built without it",
	syscall.EOPNOTSUPP:      "this stack cannot do that; ipsec version names the stack, --stack chooses another",
	syscall.ENOSYS:          "this stack cannot do that; ipsec version names the stack, --stack chooses another",
	syscall.EBUSY:           "the stack is busy; try again, and if that does not help restart it (ipsec setup restart)",
	syscall.EINVAL:          "the stack does not take the request; its log may say why",
	syscall.ENOBUFS:         "the stack has no memory left; remove what is not needed, or raise the limit of the embedded stack's control group and restart it (ipsec setup restart)",
	syscall.ENOMEM:          "the stack has no memory left; remove what is not needed",
	syscall.EEXIST:          "it exists already; remove it first",
	syscall.ENOENT:          "it does not exist",
	syscall.ENXIO:           "it does not exist",
	syscall.ESRCH:           "it does not exist",
	syscall.EFAULT:          "the stack does not find the address",
	syscall.ENOSPC:          "the stack has no room left; remove what is not needed",
	syscall.ESPIPE:          badRefs,
	syscall.EMSGSIZE:        "the stack did not get the whole request; are tool and stack of one version? (ipsec version)",
	syscall.EPROTO:          "stack and tool do not understand each other; are they of one version? (ipsec version)",
	syscall.EPIPE:           "the stack has hung up; is it running? (ipsec setup status)",
	syscall.ECONNRESET:      "the stack has hung up; is it running? (ipsec setup status)",
	syscall.ECONNREFUSED:    "no stack answers; start the embedded one with ipsec setup start",
	syscall.ENOTCONN:        "the stack has hung up; is it running? (ipsec setup status)",
	syscall.ETIMEDOUT:       "the stack does not answer; is it running? (ipsec setup status)",
	syscall.ESHUTDOWN:       "the stack is just being stopped",
	syscall.EAGAIN:          "the stack is busy; try again",
	syscall.EINTR:           "it was interrupted; try again",
	syscall.ECANCELED:       "it was interrupted; try again",
	syscall.EALREADY:        "another program is doing it at the moment; try again",
	syscall.EINPROGRESS:     "another program is doing it at the moment; try again",
	syscall.ENOTTY:          "the device does not know the request; is it a virtual device of KLIPS? (ipsec tncfg lists them)",
	syscall.ENAMETOOLONG:    "a name is too long; devices have names of at most 15 characters",
	syscall.E2BIG:           "the request is too long for the stack",
	syscall.ERANGE:          "a number is too large for the stack",
	syscall.EDOM:            "a number is outside of what the stack takes",
	syscall.ENETDOWN:        "the network device is down; ip link set DEV up",
	syscall.ENETUNREACH:     "there is no route to the address; ip route shows the routes",
	syscall.EHOSTUNREACH:    "there is no route to the address; ip route shows the routes",
	syscall.EADDRINUSE:      "another program has the address or port",
	syscall.EADDRNOTAVAIL:   "this host does not have the address; ip address shows those that it has",
	syscall.ENOPROTOOPT:     "the kernel lacks the feature, or the module for it is not loaded",
	syscall.ENOTDIR:         "a part of the path is no directory",
	syscall.ENOTSOCK:        "it is no socket of a stack",
	syscall.EPROTOTYPE:      "it is no socket of a stack",
	syscall.EROFS:           "the file system is read-only",
	syscall.ENODATA:         "the stack has no such data",
	syscall.EBADMSG:         "stack and tool do not understand each other; are they of one version? (ipsec version)",
	syscall.EOVERFLOW:       "a number is too large for the stack",
	syscall.EMFILE:          "too many open files; raise the limit (ulimit -n)",
	syscall.ENFILE:          "the system has too many open files",
	syscall.EIO:             "the system reports an input or output error; its log (dmesg) may say why",
}

package explain

import "syscall"

// What is no change, beside the operations of the changes (klips.Change).
const (
	listing = "list"
	reading = "get SA"
)

// verb returns what could not be done, for errnos without a text of their own. It is a
// switch, because a table would be built at each start of the program.
func verb(op string) string {
	switch op {
	case "add SA":
		return "not made"
	case "delete SA":
		return "not removed"
	case "clear SAs":
		return "the SAs were not removed"
	case "group":
		return "not grouped"
	case "ungroup":
		return "not ungrouped"
	case "add eroute":
		return "eroute not added"
	case "replace eroute":
		return "eroute not replaced"
	case "set inbound policy":
		return "inbound policy not set"
	case "delete eroute":
		return "eroute not removed"
	case "clear eroutes":
		return "the eroutes were not removed"
	case "attach":
		return "not attached"
	case "detach":
		return "not detached"
	case "detach all":
		return "the devices were not detached"
	case "create device":
		return "not created"
	case "delete device":
		return "not deleted"
	case "set debug":
		return "the debug masks were not changed"
	case "set":
		return "not set"
	case "guard":
		return "not kept from passing in clear"
	case "unguard":
		return "stays kept from passing in clear"
	case "open UDP port":
		return "not opened"
	case listing:
		return "cannot be listed"
	case reading:
		return "cannot be read"
	}
	return ""
}

// Texts that several operations share.
const (
	noSuchSA     = "no such SA; ipsec spi lists those that exist"
	noGroupSA    = "no such SA; make it first with ipsec spi (ipsec spi lists those that exist)"
	noPolicySA   = "there is no such SA, or no tun SA follows it in its group; on this stack an inbound policy belongs to a tun SA (see ipsec spigrp)"
	noEroute     = "no eroute has exactly these addresses, masks, protocol and ports; ipsec eroute lists those that exist"
	noDevice     = "no such device; ipsec tncfg lists those that exist, ipsec tncfg --create makes one"
	tooManyRefs  = "the stack has no SA reference left; remove SAs that are not needed (ipsec spi --del)"
	badRefs      = "the stack's table of SA references is not consistent; stop and start the stack (ipsec setup restart)"
	deviceNumber = "the number is too large; devices are ipsec0 to ipsec63"
)

// texts are the meanings that an errno has for one operation: those that klips.Change
// documents, and some that kernels answer besides. It is a list, which the compiler lays
// out; a map would be filled at each start of the program.
var texts = [...]struct {
	op    string
	errno syscall.Errno
	text  string
}{
	{"add SA", syscall.EEXIST, "an SA with this SAID exists; remove it first with ipsec spi --del, or take another SPI"},
	{"add SA", syscall.EINVAL, "the stack does not take an SA with these algorithms, keys, window and SPI; check them with ipsec spi --help"},
	{"add SA", syscall.EPROTO, "the stack does not know the cipher; take another one (--esp), or another stack (--stack)"},
	{"add SA", syscall.EPROTONOSUPPORT, "the stack does not know the protocol or an algorithm; on a stock kernel load its module (esp4, ah4, ipcomp, or esp6, ah6, ipcomp6)"},
	{"add SA", syscall.ENOSYS, "the stack does not know the algorithm; take another one, or another stack (--stack)"},
	{"add SA", syscall.ENOSPC, tooManyRefs},
	{"add SA", syscall.ESPIPE, badRefs},
	{"add SA", syscall.EAFNOSUPPORT, "the stack does not know the address family; is IPv6 switched off?"},

	{"delete SA", syscall.ESRCH, noSuchSA},

	{reading, syscall.ESRCH, noSuchSA},

	{"clear SAs", syscall.ENOENT, "the stack is not there; is it running? (ipsec setup status)"},

	{"group", syscall.ENOENT, noGroupSA},
	{"group", syscall.EEXIST, "already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)"},
	{"group", syscall.EINVAL, "the stack does not take these SAs as a group; name two to four, from the innermost (tun) to the outermost (ah)"},

	{"ungroup", syscall.ENOENT, "no such SA; ipsec spigrp lists the groups"},

	{"add eroute", syscall.EEXIST, "there is an eroute with these addresses, masks, protocol and ports; use --replace, or remove it first with --del"},
	{"add eroute", syscall.ENOENT, noSuchSA},
	{"add eroute", syscall.EINVAL, "the stack does not take this eroute; check addresses, protocol, ports and SAID"},

	{"replace eroute", syscall.EEXIST, "there is an eroute with these addresses, masks, protocol and ports; remove it first with --del"},
	{"replace eroute", syscall.ENOENT, noEroute + "; add it with --add"},
	{"replace eroute", syscall.EFAULT, noEroute + "; add it with --add"},
	{"replace eroute", syscall.EINVAL, "the stack does not take this eroute; check addresses, protocol, ports and SAID"},

	{"set inbound policy", syscall.ENOENT, noPolicySA},
	{"set inbound policy", syscall.EINVAL, "the stack does not take this inbound policy; without a tun SA, the addresses are of the same family as the SA"},

	{"delete eroute", syscall.ENOENT, noEroute},
	{"delete eroute", syscall.EFAULT, noEroute},
	{"delete eroute", syscall.EINVAL, "the stack does not take these addresses, masks, protocol and ports"},

	{"clear eroutes", syscall.ENOENT, "the stack is not there; is it running? (ipsec setup status)"},

	{"attach", syscall.ENODEV, "no such virtual device; ipsec tncfg lists those that exist, ipsec tncfg --create makes one"},
	{"attach", syscall.ENXIO, "no such physical device; ip link lists those that exist"},
	{"attach", syscall.EBUSY, "attached to a physical device already; detach it first with ipsec tncfg --detach --virtual and its name"},
	{"attach", syscall.EOPNOTSUPP, "this is not a virtual device of the stack; those are ipsec0 to ipsec63"},
	{"attach", syscall.ENAMETOOLONG, "KLIPS takes names of at most 11 characters for physical devices and 15 for virtual ones; name the device anew (ip link set DEV name NEW)"},
	{"attach", syscall.EINVAL, "the stack does not attach this pair; the virtual device is an ipsecN, the physical one is not"},

	{"detach", syscall.ENODEV, "no such device, or it is not attached; ipsec tncfg lists the devices"},
	{"detach", syscall.ENXIO, "it is not attached to a physical device; ipsec tncfg lists the devices"},
	{"detach", syscall.EOPNOTSUPP, "this is not a virtual device of the stack; those are ipsec0 to ipsec63"},

	{"detach all", syscall.ENODEV, "the stack has no virtual device; is it running? (ipsec setup status)"},
	{"detach all", syscall.EOPNOTSUPP, "ipsec0 is not a virtual device of the stack"},

	{"create device", syscall.EEXIST, "it exists already; ipsec tncfg lists the devices"},
	{"create device", syscall.ENOENT, deviceNumber},
	{"create device", syscall.EINVAL, deviceNumber},
	{"create device", syscall.ENODEV, "the system has no TUN devices; load the module tun, and in a container pass /dev/net/tun in"},
	{"create device", syscall.EBUSY, "another program has this device"},
	{"create device", syscall.ENOMEM, "the system has no memory left for the device"},
	{"create device", syscall.EIO, "the system did not register the device; its log (dmesg) may say why"},

	{"delete device", syscall.ENOENT, noDevice},
	{"delete device", syscall.EBUSY, "it is attached; detach it first with ipsec tncfg --detach --virtual and its name"},
	{"delete device", syscall.EINVAL, deviceNumber},

	{"set debug", syscall.EOPNOTSUPP, "this stack has no debug masks; ipsec version names the stack"},
	{"set debug", syscall.ENOENT, "the stack is not there; is it running? (ipsec setup status)"},
	{"set debug", syscall.EINVAL, "the stack does not take these masks"},

	{listing, syscall.ENOENT, "the stack has no such table; is it running? (ipsec setup status)"},
}

// common are the meanings that an errno has for all other operations, by errno.
var common = [...]string{
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
	syscall.EALREADY:        "another command is changing the stack, and has not ended for some seconds; try again",
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

// Package guard stops protected flows from leaving or arriving in clear. It uses the
// kernel's packet filter: one nftables table, "inet klips", in each network namespace.
// The table outlives the process that made it. So guarded flows stay closed whatever
// happens to a daemon, to its devices and to the routes into them.
//
// # What the table does
//
// After routing, packets of a guarded flow are dropped, unless they leave by a virtual
// device (ipsecN) or the kernel is about to protect them. Before routing, packets of a
// guarded flow are dropped, unless they came from a virtual device or the kernel has
// decapsulated them (RFC 4301 section 5.2). The counters unprotected-out and
// unprotected-in count the dropped packets.
//
// A flow can cover the addresses of the tunnel's own ends. Therefore the table always
// lets pass:
//   - packets on the loopback device;
//   - between this host and the far ends: ESP, AH, IPComp, and UDP from the ports of
//     IKE and of encapsulated ESP;
//   - ICMP errors that quote such packets: routers send them about our packets;
//   - neighbour discovery (ICMPv6 types 133 to 137) and multicast listener discovery on the
//     link (RFC 2710, RFC 3810), and DHCP;
//   - packets of flows that pass in clear (%pass).
//
// # How a flow is found
//
// Flows overlap: one network lies in another. Sets with intervals of nftables cannot
// have that. So flows with the same prefix lengths, and with protocol and ports or
// without, lie in one set, as in the table of eroutes of the embedded stack
// (klips/user/eroute); a rule for each set masks the packet's addresses and looks it
// up. Rules for longer prefixes come first. The kernel finds each in constant time.
//
// Later fragments have no ports: those of a flow with ports are dropped by addresses
// and protocol alone.
//
// # What ICMP errors quote
//
// A host or router answers a packet that it cannot deliver with an ICMP error, which
// quotes the packet. If the packet came protected, its content is secret (RFC 4301
// section 4.1). But the route and the eroutes decide about the error by its own header.
// So the error can leave in clear although no eroute allows that.
//
// [Rules.Hide] prevents this. The table remembers the source addresses of packets that
// come from a virtual device, or that the kernel has decapsulated. After routing, it
// drops ICMP errors that quote a packet from one of these addresses, unless they leave by
// a virtual device or the kernel is about to protect them. The counter quotes-out counts
// them. Errors that quote ESP pass: path MTU discovery of other hosts needs them, and the
// content of ESP is encrypted.
//
// For two minutes, errors about packets that such a source sends in clear are dropped
// too. The table compares only the address. It cannot compare more: NAT may have changed
// the destination and the ports before, and fragments have no ports. Two other methods
// would change more on the host. With marks that the kernel reflects (fwmark_reflect),
// the error has the mark of its packet; but marks and that setting belong to the
// administrator. Connection tracking knows the packet that an error is about; but not all
// hosts track connections.
package guard

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
// unprotected-in count what is dropped.
//
// A flow can cover the addresses of the tunnel's own ends. Therefore the table always
// lets pass:
//   - what goes by the loopback device;
//   - between this host and the far ends: ESP, AH, IPComp, and UDP from the ports of
//     IKE and of encapsulated ESP;
//   - ICMP errors that quote such packets: routers send them about our packets;
//   - neighbour discovery (ICMPv6 types 133 to 137) and multicast listener discovery on the
//     link (RFC 2710, RFC 3810), and DHCP;
//   - packets of flows that are to pass in clear (%pass).
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
package guard

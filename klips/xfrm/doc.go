// Package xfrm is the stack of the mainline Linux kernel. It carries out KLIPS'
// commands with the kernel's IPsec, XFRM, over netlink.
//
// It builds KLIPS' objects from the kernel's:
//
//   - An esp, ah or comp SA is a state. A tun SA has no state: the SA that follows
//     it in its group is in tunnel mode.
//   - A group is the list of templates of a policy.
//   - An eroute is a policy of direction out. The kernel takes of all matching
//     policies the one with the lowest priority: an eroute's priority follows from
//     its selector, so that this is the eroute that KLIPS takes.
//   - Further SAs of an eroute are states for one processor: see processors.go.
//   - What comes out of a tunnel needs policies of directions in and fwd, which
//     eroute --addin narrows. If selectors cannot distinguish one group's packets from
//     another's, or from clear ones, the group's states set a mark on them.
//   - A group with an inbound policy has such policies in transport mode, too, and
//     what they select is refused in clear: see clear.go.
//   - ipsecN is an xfrm interface with the interface ID N+1, which all states and
//     policies of its traffic have too. If the kernel has no xfrm interfaces,
//     it is a dummy device that packets are routed to, and the ID is 0.
//
// As in KLIPS, packets are protected and let in only while a device is attached.
//
// The kernel's tables are the only database. Every SA has a record there: a policy that
// matches no packet, because no device has its interface ID. Records hold the links
// between SAs, and other data that the kernel does not keep. Eroutes without a device
// are parked in the same way. A policy's byte and packet limits, which the kernel
// ignores in policies, hold the data that identifies it, and a mark that distinguishes
// our policies from those of other programs. States without a record belong to other
// programs, and are never changed.
//
// A change reads the kernel's objects into tables, changes these as KLIPS would,
// compiles the objects that the new tables need, and applies the difference: see
// load.go, tables.go, compile.go and apply.go. So the next change also repairs an
// incomplete one.
//
// Among many objects, a change reads only those that it is about, by look-ups: see
// near.go. For that, records name the neighbours and eroutes of their SAs, further
// policies name the SAs with one key, and the census counts all objects: see users.go
// and census.go.
//
// The changes of a batch file are made together, as long as the kernel refuses none:
// states of the tables between two lines never reach the kernel.
package xfrm

// Package xfrm is the stack of the mainline Linux kernel: KLIPS' verbs carried
// out by its IPsec, XFRM, over netlink.
//
// What KLIPS has and the kernel has not is put together from what the kernel
// has:
//
//   - An esp, ah or comp SA is a state. A tun SA is none: the SA that follows it
//     in its group is in tunnel mode.
//   - A group is the list of templates of a policy.
//   - An eroute is a policy of direction out. The kernel takes of all matching
//     policies the one with the lowest priority: priorities are given so that
//     this is the eroute that KLIPS takes.
//   - What comes out of a tunnel needs policies of directions in and fwd, which
//     eroute --addin narrows. Where selectors do not tell one group's packets from
//     another's, or from clear ones, a mark does that their states put on them.
//   - A group with an inbound policy has such policies in transport mode, too, and
//     what they select is refused in clear: see clear.go.
//   - ipsecN is an xfrm interface with the interface ID N+1, which all states and
//     policies of its traffic have too. Where the kernel has no xfrm interfaces,
//     it is a dummy device that packets are routed to, and the ID is 0.
//
// As with KLIPS, nothing is protected or let in before a device is attached.
//
// The kernel's tables are the only database. Every SA has a record there: a
// policy that no packet can meet, because it is for an interface ID that no
// device has. Records say how SAs are linked and what else the kernel does not
// keep. Eroutes without a device are parked in the same way. What a policy needs
// to be found again stands in its byte and packet limits, which the kernel does
// not look at in policies; a mark there tells our policies from those of others.
// States without a record are others' too, and are never touched.
//
// A change reads the kernel's objects into tables, changes these as KLIPS would,
// works out the objects that the new tables need, and makes the difference:
// see load.go, tables.go, compile.go and apply.go. What is half done for whatever
// reason is therefore put right by the next change.
//
// The changes of a file are made together, as long as the kernel refuses nothing:
// what the tables have only between two lines never gets there.
package xfrm

// Package eroute is the extended routing table of the embedded stack: which
// packets go to which SA.
//
// # Which eroute wins
//
// Of all eroutes that match a packet the winner is found as KLIPS' documented
// behaviour has it: one that another matching eroute refines (has a mask with all
// of its bits and more) never wins; of the others the one with the greatest key
// does, the key being source, destination, protocol, source port and destination
// port as one big-endian number; with equal keys the one with more mask bits, then
// the oldest.
//
// The first condition follows from the others. If A refines B and both match a
// packet, then A's key is the packet under a longer mask and so, field by field,
// not smaller than B's: A's key is greater, or it is equal and A has more mask
// bits. So the rule is one total order of all eroutes, which does not depend on
// the packet, and the winner is the first in that order that matches. (Package
// tests compare this with the rule as worded above.)
//
// # How it is found
//
// Eroutes lie in nested prefix tables: by source, then by destination, then by
// protocol and ports; a level with few eroutes is a short list in winning order
// instead. A lookup visits the source prefixes that hold the packet, longest
// first. Their addresses do not grow as they get shorter, so when an eroute has
// been found, all prefixes with a smaller address are passed over; the same holds
// for destinations.
//
// # Concurrency
//
// Every change makes a new table that shares all but the changed path with the
// old one, and publishes it with one atomic store. A lookup works on the one
// table that it loaded first: it neither locks nor waits, and sees each change
// as a whole and changes in their order. That matters for security: a lookup
// that saw a deletion but not the addition before it could send a packet in
// clear that at no time was allowed to go so.
package eroute

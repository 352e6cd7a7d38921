// Package eroute is the extended routing table of the embedded stack: it finds the SA
// for a packet.
//
// # Which eroute wins
//
// The winner among the eroutes that match a packet follows KLIPS' documentation. An
// eroute loses if another matching eroute refines it, that is, has a mask with all of
// its bits and more. Of the others, the one with the greatest key wins. The key is
// source, destination, protocol, source port and destination port as one big-endian
// number. With equal keys the one with more mask bits wins, then the oldest.
//
// The first condition follows from the others. If A refines B and both match a packet,
// then A's key is the packet under a longer mask and so, field by field, not smaller
// than B's: A's key is greater, or it is equal and A has more mask bits. So all eroutes
// have one total order, which does not depend on the packet. The winner is the first
// eroute in that order that matches. (The tests compare this with the documented rule.)
//
// # How it is found
//
// All eroutes are in one hash table by key and mask. A lookup tries the mask shapes in
// use: source lengths, longest first, and for each the combinations of destination
// length, protocol and ports, again longest first. A shorter prefix of an address is
// never greater. So once an eroute has been found, the lookup skips all shapes that
// give a smaller source, or the same source and a smaller destination. If one source
// length has many combinations, each source prefix has a list of its own.
//
// In a large table what takes time is memory that is in no cache of the processor. A try
// that finds nothing reads a word of the hash table's tags, which a cache can hold. The one
// that finds an eroute reads its slot too, with the whole key. Nothing of the eroute is read.
//
// A [Cache] remembers the results for the latest flows of one goroutine. Its lookups take as
// long in a table of a million eroutes as in one of ten.
//
// # Concurrency
//
// Changes take a mutex. Lookups neither lock nor wait, and each sees the table as it
// was at one moment. Security depends on this. Otherwise a lookup could miss one eroute
// because it was added too late for it, and another because it was deleted before it
// got there. It could then let a packet pass in clear although the table never allowed
// that.
//
// Each change has a number. An eroute has the numbers of the change that made it and of
// the one that ended it. A change becomes visible in one step, when its number is
// published as the table's version. Only then the writer raises the horizon to that
// number, and removes the eroutes that the change ended. A lookup reads the version
// first and ignores newer eroutes. If the horizon is above that version at its end, it
// may have missed a removed eroute, and starts again. So a lookup repeats only if a
// deletion was completed meanwhile, and an interrupted writer delays no lookup.
//
// A writer also notes when it begins a change and when all of it is done. If the newest
// change was done when a lookup began, and no other has begun at its end, then the table did
// not change meanwhile, and every eroute that it found is of the one version. Only otherwise
// the lookup is repeated as above and reads the numbers of eroutes.
package eroute

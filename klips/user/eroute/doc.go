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
// the packet, and the winner is the first in that order that matches. (The tests
// compare this with the rule as worded above.)
//
// # How it is found
//
// All eroutes lie in one hash table by key and mask. A lookup tries the shapes of
// mask that are in use: source lengths, longest first, and under each the
// combinations of destination length, protocol and ports, again longest first.
// As prefixes get shorter their addresses do not grow, so once an eroute has been
// found all shapes that give a smaller source, or the same source and a smaller
// destination, are passed over. Where one source length has many combinations,
// each source prefix keeps a list of those that it really has.
//
// # Concurrency
//
// Changes take a mutex; lookups neither lock nor wait for anybody, and each sees
// the table as it was at one moment. That matters for security: a lookup that
// missed an eroute because it was added late, and then missed another because it
// was deleted soon, could send a packet in clear that at no time was allowed to
// go so.
//
// Each change has a number. An eroute has the number of the change that made it
// and of the one that ended it. A change first becomes visible in one step, when
// its number is published as the table's version, and only then are the eroutes
// that it ended taken out, after raising the horizon to that number. A lookup goes
// by the version that it read first and ignores what is younger; if at its end the
// horizon is beyond that version, something may have been taken out under it, and
// it starts again. So a lookup repeats only if a deletion has been completed
// meanwhile, and a writer that is interrupted holds up no one.
package eroute

// Package sadb is the security association database of the embedded stack: SAs
// by SAID, groups of them, inbound policies, counters and lifetimes, with the
// rules of KLIPS.
//
// # Concurrency
//
// Changes (Add, Delete, Group, …) take one mutex inside the [DB]. Readers never
// lock and never wait: [DB.Lookup] walks a hash table of atomic pointers, and
// what can change in an SA is atomic. A reader may go on using an SA that was
// deleted meanwhile; its State is Dead then and its keys are gone.
//
// An SA's place in its group is one pointer to an immutable snapshot
// ([SA.Chain], [SA.Snapshot]). A packet that loads it once is treated by either
// the old or the new group as a whole:
//
//   - A group is published from its last SA to its first, in processing order.
//     Packets enter at the first, so when they see the new group, all other
//     members know it too, and none of them passes for a group of its own.
//   - A group is taken apart from its first SA to its last: until the first is
//     on its own, the others do not pass for heads.
//   - Deleting SAs does not touch their chains. A packet that found the first SA
//     just before the group was deleted meets dead SAs and is dropped; it never
//     finds a shorter chain that would let it out with less protection.
package sadb

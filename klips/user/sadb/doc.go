// Package sadb is the security association database of the embedded stack: SAs
// by SAID, groups of them, inbound policies, counters and lifetimes, with the
// rules of KLIPS.
//
// # Concurrency
//
// Changes (Add, Delete, Group, …) take one mutex inside the [DB]. Readers never lock
// and never wait: [DB.Lookup] walks a hash table of atomic pointers, and the variable
// fields of an SA are atomic. A reader may keep an SA that is deleted meanwhile; its
// State is then Dead and its keys are cleared.
//
// An SA's place in its group is one pointer to an immutable snapshot ([SA.Chain],
// [SA.Snapshot]). A packet loads it once, and is processed by the whole old group or
// the whole new one:
//
//   - A group is published from its last SA to its first, in processing order.
//     Packets enter at the first, so when they see the new group, all other
//     members know it too, and none of them looks like a group of its own.
//   - A group is taken apart from its first SA to its last: until the first is
//     on its own, the others do not look like heads.
//   - Deleting SAs does not touch their chains. A packet that found the first SA
//     just before the group was deleted finds dead SAs and is dropped; it never
//     finds a shorter chain that would let it out with less protection.
package sadb

// Package module is KLIPS' kernel module, libreswan 3.32's, as a state machine in
// memory: a second implementation, for tests, that shares no code with a stack or its
// model. It accepts PF_KEY messages and device ioctls, answers them as the kernel does,
// and prints its tables in the form of /proc/net.
//
// It has the faults of the real one on purpose. Links between SAs are pointers without
// a reference count: a second predecessor is accepted; ungrouping starts at the named
// SA and drops references that were never taken; and an SA without references is freed
// while others point at its memory, which the next SA then gets. Deleting an eroute can
// ignore its mask. An inet6 eroute with a protocol is stored wrongly. Operations that
// are undefined in the kernel are recorded, see [Module.Faults].
//
// There are no packets: tests set the counters. There are no goroutines or locks, and
// the caller supplies the time.
package module

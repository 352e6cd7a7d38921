// Package module is KLIPS' kernel module, libreswan 3.32's, as a state machine in
// memory: a second implementation, for tests, that shares no code with a stack
// or its model. It takes PF_KEY messages and device ioctls, answers them as the
// kernel does, and prints its tables as the text of /proc/net.
//
// It is as bad as the real one, on purpose. Links between SAs are pointers that
// nothing counts: a second predecessor is taken, ungrouping starts at the SA that
// is named and takes references that were never given, and an SA whose last
// reference goes is freed while others point at its memory, which the next SA
// then gets. Deleting an eroute can ignore its mask. An inet6 eroute with a
// protocol is stored wrongly. What is undefined in the kernel is recorded, see
// [Module.Faults].
//
// There are no packets: tests set the counters. Nothing here has goroutines or
// locks, and the time comes from outside.
package module

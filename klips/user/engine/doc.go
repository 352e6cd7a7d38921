// Package engine is KLIPS in user space: the databases of SAs and eroutes, the
// virtual devices, and the path of packets between them.
//
// A packet flows one way. Outbound (out.go): read from a TUN device, eroute,
// group, transforms in place, raw socket. Inbound (in.go): raw socket, SA,
// transforms, policy, written to the TUN device. Each virtual device has a
// goroutine for its outbound packets; one goroutine takes all inbound packets.
// On machines with several processors each has helpers (lanes.go), but all
// packets of an SA meet one of them, so every replay window has one writer. On
// machines with few processors one goroutine may do the work of two (loan.go).
// None takes a lock or allocates for a packet: the databases are read through
// atomic pointers, and each worker has cipher states of its own for the SAs that
// it meets.
//
// decide_out.go and decide_in.go decide about packets, and change nothing; out.go and
// in.go do what is decided. A packet that is dropped is counted once, by its reason
// (package klips/drop). Its IP header is parsed once; the parsed header goes with the
// packet from one transform to the next.
//
// [Engine] is a serial.Doer for callers in the same process; package
// daemon puts it behind a socket.
package engine

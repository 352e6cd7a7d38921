// Package daemon puts an engine behind a unix socket: it owns the run directory,
// makes sure that there is one daemon per directory, creates the devices that a
// KLIPS kernel has from the start, and answers PF_KEY messages.
//
// Every message gets its answer, with the same sequence number and process id:
// errno zero, or what a KLIPS kernel's write() would have returned. Listings are
// several messages, the last one without data. A client is served by a
// goroutine of its own, so one that does not read holds up nobody else.
package daemon

// Package daemon puts an engine behind a unix socket: it owns the run directory,
// makes sure that there is one daemon per directory, creates the devices that a
// KLIPS kernel has from the start, and answers PF_KEY messages.
//
// Every message gets its answer, with the same sequence number and process id:
// errno zero, or what a KLIPS kernel's write() would have returned. Listings are
// several messages, the last one without data.
//
// # Who hears what
//
// Everyone who is connected hears the answers to KLIPS' requests, and errors as
// a header alone, as every open PF_KEY socket does; answers to GET and about
// devices are for the asker only, those to REGISTER and ACQUIRE for all who
// registered for the SA type. Private requests and their answers concern nobody
// else; of a group that was made by one, the others hear what a KLIPS kernel
// says of its pairs. EXPIRE goes to everyone, ACQUIRE to those who registered
// for ESP. All hear of changes in the order in which they were made.
//
// # Who changes what
//
// Changes of clients come one after the other. A client can have the turn for several:
// the others then wait, up to a limit, and read what they like. See turn.go.
//
// # Clients that do not read
//
// A client is served by two goroutines of its own, and whoever has something to
// tell it puts that into a queue and goes on: neither packets nor other clients
// wait. Of what a client did not ask for, only so much waits; the rest is
// dropped, counted, and logged once. Its own answers are not dropped: the next
// request is read when the last answer has been sent.
//
// # Clients that do nothing
//
// Who has registered (RFC 2367 section 3.1.7) is a listener and may stay. Any
// other client is idle when it has neither asked nor taken an answer for some
// minutes, and is closed. When there are too many clients, the one that has been
// idle longest goes at once; listeners are fewer than all, so that there is
// always one that can go. See idle.go for the numbers.
//
// # The run directory
//
// The daemon takes no directory that another user could change, follows no link
// in it, and holds the lock of one file there as long as it lives: see
// [user.Dir]. Clients check the same, and who answers, before they send a key.
package daemon

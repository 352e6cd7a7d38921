// Package daemon puts an engine behind a unix socket. It owns the run directory, makes
// sure that there is one daemon per directory, creates the devices that a KLIPS kernel
// has from the start, and answers PF_KEY messages.
//
// Every message gets an answer with the same sequence number and process id. Its errno
// is zero, or what a KLIPS kernel's write() would return. A listing is several
// messages, the last one without data.
//
// # Receivers of messages
//
// Every client receives the answers to KLIPS' requests, as every open PF_KEY socket
// does; of a failed request it receives the header alone. Answers to GET and about
// devices go only to the client that asked; answers to REGISTER and ACQUIRE go to all
// who registered for the SA type. Private requests and their answers go to no other
// client, with one exception: when a private request makes a group, the others receive
// what a KLIPS kernel sends about its pairs. EXPIRE goes to every client, ACQUIRE to
// those who registered for ESP. All clients receive messages about changes in the order
// of the changes. The answers to a bundle of requests come together: the client may
// receive other messages before them.
//
// # The turn
//
// Changes of clients are carried out one after the other. A client can have the turn
// for several changes: the others then wait, up to a limit, and may read meanwhile. See
// turn.go.
//
// # Slow clients
//
// Each client is served by two goroutines of its own. A message for it goes into a
// queue, and the sender does not wait: neither packets nor other clients are delayed.
// The queue holds a limited number of broadcasts; more are dropped, counted, and logged
// once. Answers are not dropped: the next request, or bundle of requests, is read after
// the last answer has been sent.
//
// # Idle clients
//
// A client that registered (RFC 2367 section 3.1.7) is a listener and may stay. Any
// other client is idle when it has neither sent a request nor read an answer for some
// minutes, and is closed. When there are too many clients, the one that has been idle
// longest is closed at once. The number of listeners is limited, so that there is
// always a client that can be closed. See idle.go for the limits.
//
// # The run directory
//
// The daemon refuses a directory that another user could change, follows no link in it,
// and holds the lock of one file there as long as it lives: see [user.Dir]. Before
// clients send a key, they check the directory in the same way, and the process at the
// other end of the socket.
package daemon

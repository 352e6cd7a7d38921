// Package helper is the small process that keeps the rights which the embedded stack's
// daemon gives up, and does for it the few things that need them: it opens UDP ports
// below 1024 and the file for TUN devices, sets up again what a new default route has
// changed, and removes the daemon's files at its end. It ends with the daemon.
//
// A request is a message on a socket between the two: its kind and its arguments, and
// a socket of its own for the answer. So requests do not wait for each other, and the
// daemon cancels one by closing that socket.
package helper

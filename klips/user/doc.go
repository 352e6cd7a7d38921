// Package user is stack user: KLIPS in user space, in this program. A daemon (package
// daemon) runs the packet path (package engine) and listens on a unix socket. [Client]
// sends it the commands' requests. It contains no packet code, so that commands start
// fast.
package user

// Package rawip is the protected side of the stack: raw sockets that send whole
// IP packets out through one physical device and receive ESP and AH packets of
// the whole host, many per system call.
package rawip

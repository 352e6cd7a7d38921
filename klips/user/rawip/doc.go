// Package rawip has the sockets of the protected side of the stack. Raw sockets send
// whole IP packets through one physical device, and receive the host's ESP and AH
// packets, many per system call.
package rawip

// Package rawip has the sockets of the protected side of the stack. Raw sockets send
// whole IP packets through one physical device, and receive the host's ESP and AH
// packets, many per system call. ESP in UDP passes the UDP socket of its port instead
// ([Ports]), where nothing else holds that port: many datagrams of one flow are then one
// message for the kernel.
package rawip

// Package host is the real machine of the engine: TUN devices, raw sockets and the list
// of the host's own addresses, all in the network namespace in which the process was
// started.
package host

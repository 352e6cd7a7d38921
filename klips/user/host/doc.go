// Package host is the real machine behind the engine: TUN devices, raw sockets
// and the list of the host's own addresses, all in the network namespace that
// the process was started in.
package host

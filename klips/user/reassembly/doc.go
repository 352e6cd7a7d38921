// Package reassembly reassembles fragments of IP datagrams (RFC 791 section 3.2, RFC
// 815, RFC 8200 section 4.5), in bounded memory and for a bounded time. It has no
// goroutines, no locks and no clock of its own.
package reassembly

//go:build !purego

package wipe

// Registers overwrites the vector registers of the processor, where ciphers and hashes
// leave keys. A signal that comes later would store them, see [Signals]. On other
// processors than amd64 it does nothing.
func Registers()

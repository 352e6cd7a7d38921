//go:build !amd64 || purego

package wipe

// Registers does nothing on this processor.
func Registers() {}

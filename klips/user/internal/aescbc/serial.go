//go:build !amd64 || purego

package aescbc

// Off has no effect here: package cipher is always used.
var Off bool

// Parallel reports whether the processor's AES instructions are used.
func Parallel() bool { return false }

func expand([]byte) *schedule { panic("aescbc: no AES instructions") }

func (*schedule) invert() { panic("aescbc: no AES instructions") }

func (*schedule) encrypt([][]byte) { panic("aescbc: no AES instructions") }

func (*schedule) decrypt([]byte) { panic("aescbc: no AES instructions") }

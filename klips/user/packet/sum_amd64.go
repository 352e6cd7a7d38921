//go:build !purego

package packet

import "golang.org/x/sys/cpu"

// wide is the length in bytes of what sumWide takes at once; 0: it cannot be used.
var wide = wideLen()

func wideLen() int {
	if cpu.X86.HasAVX2 {
		return 64
	}
	return 0
}

// sumWide returns the sum of the little-endian 32-bit words of the n bytes at p. n is a
// multiple of wide, and not 0.
//
//go:noescape
func sumWide(p *byte, n int) uint64

//go:build !purego

package hashpair

import (
	"sync"

	"golang.org/x/sys/cpu"
)

// Off is set by tests, and only before the first use of a state: Supported returns false.
var Off bool

var (
	once sync.Once
	has  bool
)

// Supported reports whether the processor has the instructions. No other function may be
// called where it has not.
func Supported() bool {
	once.Do(func() {
		// Package cpu does not know the bit of these instructions.
		const sha = 1 << 29
		has = features()&sha != 0 && cpu.X86.HasSSSE3 && cpu.X86.HasSSE41
	})
	return has && !Off
}

// features returns register BX of leaf 7 of CPUID, 0 if there is no such leaf.
func features() uint32

//go:noescape
func add1(a, b *State, p, q *byte, n int)

//go:noescape
func add256(a, b *State, p, q *byte, n int)

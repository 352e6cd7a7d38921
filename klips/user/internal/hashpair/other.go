//go:build !amd64 || purego

package hashpair

// Off has no effect here: there are no instructions.
var Off bool

// Supported reports whether the processor has the instructions. No other function may be
// called where it has not.
func Supported() bool { return false }

func add1(a, b *State, p, q *byte, n int) { panic("hashpair: no SHA instructions") }

func add256(a, b *State, p, q *byte, n int) { panic("hashpair: no SHA instructions") }

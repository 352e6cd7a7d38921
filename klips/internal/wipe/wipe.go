// Package wipe overwrites copies of keys inside cipher objects, and what code that uses
// keys leaves on stacks and in registers. Go's cipher packages cannot do that, and memory
// freed by the garbage collector keeps its bytes until it is used again.
package wipe

import (
	"reflect"
	"runtime"
	"unsafe"
)

// Parts has the known parts of objects. A part is a piece of memory without pointers.
type Parts struct{ seen map[unsafe.Pointer]bool }

// WhenGone overwrites the parts of x with zeros, each after the garbage collector has
// found that nothing refers to it any more. x is a cipher, a hash or a MAC that was
// just made and shares no memory with others. Known parts are skipped, so WhenGone can
// be called again for an object that has new parts. It returns the number of new parts.
func (p *Parts) WhenGone(x any) (parts int) {
	return p.walk(reflect.ValueOf(x), func(part any) { runtime.SetFinalizer(part, overwrite) })
}

// Now overwrites at once the parts of x, which must not be used any more, and the data
// that its functions have left on the caller's stack and in registers, see [Stack].
func Now(x any) {
	new(Parts).walk(reflect.ValueOf(x), overwrite)
	Stack()
}

// Reserve makes the caller's stack large enough for functions that handle keys, and for
// [Stack] after them. A stack that grows later is moved, and the old one keeps its bytes:
// what such functions have left there would not be overwritten.
//
//go:noinline
func Reserve() {
	if never {
		var b [stackSize + 1024]byte // part of the frame in any case, and not cleared
		runtime.KeepAlive(&b)
	}
}

// never is false. The compiler does not know that.
var never bool

// Stack overwrites the data that functions called by the caller have left on the stack,
// if the caller has called [Reserve] before them, and in [Registers].
//
//go:noinline
func Stack() {
	var b [stackSize]byte
	clear(b[:])
	runtime.KeepAlive(&b)
	Registers()
}

// stackSize is more than the stack frames of functions that handle keys, in bytes.
const stackSize = 2048

// walk calls f with a pointer to each new part of v, and returns their number.
func (p *Parts) walk(v reflect.Value, f func(part any)) (n int) {
	switch v.Kind() {
	case reflect.Interface:
		return p.walk(v.Elem(), f)
	case reflect.Pointer:
		switch {
		case v.IsNil():
		case flat(v.Type().Elem()):
			return p.part(v.UnsafePointer(), v.Type().Elem(), f)
		default:
			return p.walk(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += p.walk(v.Field(i), f)
		}
	case reflect.Slice:
		if e := v.Type().Elem(); v.Cap() > 0 && flat(e) {
			return p.part(v.UnsafePointer(), reflect.ArrayOf(v.Cap(), e), f)
		}
	}
	return n
}

// part calls f for memory that begins at a pointer and holds a value of type t.
func (p *Parts) part(at unsafe.Pointer, t reflect.Type, f func(part any)) (n int) {
	if p.seen[at] || t.Size() == 0 {
		return 0
	}
	if p.seen == nil {
		p.seen = map[unsafe.Pointer]bool{}
	}
	p.seen[at] = true
	f(reflect.NewAt(t, at).Interface())
	return 1
}

// overwrite overwrites the part that x points to.
func overwrite(x any) {
	v := reflect.ValueOf(x)
	clear(unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size()))
}

// flat reports whether values of a type contain no pointers.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !flat(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return flat(t.Elem())
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return true
	}
	return false
}

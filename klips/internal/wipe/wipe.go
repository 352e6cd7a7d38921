// Package wipe overwrites the copies of keys that cipher objects have. The packages of Go
// that make them have no way to do so, and memory that the garbage collector frees keeps
// its bytes until it is used again.
package wipe

import (
	"reflect"
	"runtime"
	"unsafe"
)

// Parts are those of objects that are to be overwritten: each piece of memory that holds no
// pointers.
type Parts struct{ seen map[unsafe.Pointer]bool }

// WhenGone overwrites the parts of x with zeros, each after the garbage collector has found
// that nothing refers to it any more, so nobody can be using it. x is a cipher, a hash or a
// MAC that was just made and shares nothing with others. Parts that were seen before are
// stepped over, so it can look again at an object that has got others since. It returns how
// many are new.
func (p *Parts) WhenGone(x any) (parts int) {
	return p.walk(reflect.ValueOf(x), func(part any) { runtime.SetFinalizer(part, overwrite) })
}

// Now overwrites the parts of x at once, which must not be used any more, and what the
// functions of x have left on the stack of the caller.
func Now(x any) {
	new(Parts).walk(reflect.ValueOf(x), overwrite)
	Stack()
}

// Stack overwrites what functions have left on the stack that the caller has called.
//
//go:noinline
func Stack() {
	var b [stackSize]byte
	clear(b[:])
	runtime.KeepAlive(&b)
}

// stackSize is more than the frames of the functions need that handle keys, in bytes.
const stackSize = 2048

// walk calls f with a pointer to each part of v that is new, and returns how many there are.
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

// overwrite overwrites the part that x is a pointer to.
func overwrite(x any) {
	v := reflect.ValueOf(x)
	clear(unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size()))
}

// flat reports whether values of a type hold no pointers.
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

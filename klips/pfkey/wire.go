package pfkey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// An Error is a fault in a message. Unwrap returns the errno of a KLIPS kernel's
// answer, so errors.Is(err, syscall.EINVAL) works. The text never contains keys.
type Error struct {
	Errno  syscall.Errno
	Type   Type    // type of the message, 0 if unknown
	Ext    ExtType // extension at fault, 0 if it is the header or the whole message
	Detail string
}

func (e *Error) Error() string {
	s := "pf_key message"
	if e.Type != 0 {
		s += " " + e.Type.String()
	}
	if e.Ext != 0 {
		s += ", extension " + e.Ext.String()
	}
	return s + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.Errno }

func fault(errno syscall.Errno, format string, args ...any) *Error {
	return &Error{Errno: errno, Detail: fmt.Sprintf(format, args...)}
}

// Errno returns the errno for the answer to a request that failed with err: the
// syscall.Errno that err wraps, 0 for nil, and EINVAL if there is none or if it does
// not fit into the header's single byte.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno > 0 && errno < 256 {
		return errno
	}
	return syscall.EINVAL
}

// A reader reads values from the body of one extension. After the first missing value
// all values are zero.
type reader struct {
	b   []byte
	err *Error
}

func (r *reader) fail(errno syscall.Errno, format string, args ...any) {
	if r.err == nil {
		r.err = fault(errno, format, args...)
	}
}

// bytes returns the next n bytes; they alias the input.
func (r *reader) bytes(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.fail(syscall.EINVAL, "%d bytes where %d are wanted", len(r.b), n)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8    { return r.bytes(1)[0] }
func (r *reader) u16() uint16  { return binary.NativeEndian.Uint16(r.bytes(2)) }
func (r *reader) u32() uint32  { return binary.NativeEndian.Uint32(r.bytes(4)) }
func (r *reader) u64() uint64  { return binary.NativeEndian.Uint64(r.bytes(8)) }
func (r *reader) be16() uint16 { return binary.BigEndian.Uint16(r.bytes(2)) }
func (r *reader) be32() uint32 { return binary.BigEndian.Uint32(r.bytes(4)) }
func (r *reader) skip(n int)   { r.bytes(n) }

// zero fails unless the next n bytes, a reserved field, are zero.
func (r *reader) zero(n int) {
	for _, c := range r.bytes(n) {
		if c != 0 {
			r.fail(syscall.EINVAL, "a reserved field is not zero")
			return
		}
	}
}

// end fails unless all has been read.
func (r *reader) end() {
	if len(r.b) != 0 {
		r.fail(syscall.EINVAL, "%d bytes too long", len(r.b))
	}
}

// A writer appends values; like the reader it keeps the first error.
type writer struct {
	b   []byte
	err *Error
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fault(syscall.EINVAL, format, args...)
	}
}

func (w *writer) u8(v uint8)    { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)  { w.b = binary.NativeEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)  { w.b = binary.NativeEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)  { w.b = binary.NativeEndian.AppendUint64(w.b, v) }
func (w *writer) be16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) be32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) bytes(v []byte) {
	w.b = append(w.b, v...)
}

func (w *writer) zero(n int) {
	for range n {
		w.b = append(w.b, 0)
	}
}

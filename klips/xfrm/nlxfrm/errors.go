package nlxfrm

import (
	"errors"
	"strings"

	"github.com/mdlayher/netlink"
)

// An Error is a request that failed. Unwrap gives the kernel's syscall.Errno,
// so errors.Is(err, syscall.EEXIST) works, or the context's error, or what the
// socket reported. Requests that cannot be encoded are EINVAL.
type Error struct {
	Op     string // as in "add state"
	Object string // the ID or PolicyKey as text; empty for dumps
	Err    error
	// Message is the reason in the kernel's own words (its extended ack), or in
	// this package's where a request could not be encoded; often empty.
	Message string
	// Offset is where in the request, its netlink header included, the fault
	// is; 0 is unknown.
	Offset int
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteString(" " + e.Object)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Message != "" {
		b.WriteString(" (" + e.Message + ")")
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// wrap makes an Error of what package netlink returned.
func wrap(op, object string, err error) *Error {
	e := &Error{Op: op, Object: object, Err: err}
	var n *netlink.OpError
	if errors.As(err, &n) {
		e.Err, e.Message, e.Offset = n.Err, n.Message, n.Offset
	}
	return e
}

package nlxfrm

import (
	"errors"
	"strings"

	"github.com/mdlayher/netlink"
)

// An Error is a failed request. Unwrap returns the kernel's syscall.Errno, so
// errors.Is(err, syscall.EEXIST) works, or the context's error, or that of the socket.
// A request that cannot be encoded is EINVAL.
type Error struct {
	Op     string // as in "add state"
	Object string // the ID or PolicyKey as text; empty for dumps
	Err    error
	// Message is the kernel's reason (its extended ack), or this package's if a request
	// could not be encoded; often empty.
	Message string
	// Offset is the position of the fault in the request, including its netlink header;
	// 0 if unknown.
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

// wrap makes an Error from an error of package netlink.
func wrap(op, object string, err error) *Error {
	e := &Error{Op: op, Object: object, Err: err}
	var n *netlink.OpError
	if errors.As(err, &n) {
		e.Err, e.Message, e.Offset = n.Err, n.Message, n.Offset
	}
	return e
}

// Package explain turns the errnos that a stack answers into texts for people:
// which object is at fault, what is wrong with it, and how to fix it.
package explain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
)

// A failure is an error of a stack with a text for people. It unwraps to that error.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// Error explains the error of a stack that refused a change. object is the object of
// the change (a SAID, an eroute, a device); it is used if the error does not name its
// object, and may be empty. The result unwraps to err. A nil error stays nil, a
// *klips.UnavailableError gets the advice for it, and an error without an errno and an
// operation is returned unchanged.
func Error(c klips.Change, object string, err error) error { return explain(c.Op(), object, err) }

// Listing explains the error of a stack that could not list something, such as "SAs".
// It is otherwise as [Error].
func Listing(what string, err error) error { return explain(listing, what, err) }

// Reading explains the error of a stack that could not read one SA. It is otherwise as
// [Error].
func Reading(id klips.SAID, err error) error { return explain(reading, id.String(), err) }

// explain does the work of [Error]; op is an operation of verbs.
func explain(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var gone *klips.UnavailableError
	if errors.As(err, &gone) {
		return &failure{Line(err), err}
	}
	detail := ""
	var oe *klips.OpError
	if errors.As(err, &oe) {
		if oe.Object != "" {
			object = oe.Object
		}
		detail = oe.Detail
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
	case errors.Is(err, context.DeadlineExceeded):
		errno = syscall.ETIMEDOUT
	case errors.Is(err, fs.ErrNotExist):
		errno = syscall.ENOENT
	case errors.Is(err, fs.ErrPermission):
		errno = syscall.EACCES
	case oe == nil:
		return err
	}
	var what string
	switch {
	case oe != nil && oe.Fault != klips.FaultNone:
		what = verb(op) + ": " + faultText(oe)
	case oe != nil && oe.Reason != "":
		what = verb(op) + ": " + oe.Reason
	case errno != 0:
		what = meaning(op, errno)
	default:
		what = verb(op)
		if oe.Err != nil {
			what += ": " + oe.Err.Error()
		}
	}
	var b strings.Builder
	if object != "" {
		b.WriteString(object)
		b.WriteString(": ")
	}
	b.WriteString(what)
	if oe != nil && oe.Left != "" {
		b.WriteString("; not all could be taken back: ")
		b.WriteString(oe.Left)
	}
	if detail != "" {
		b.WriteString(" (the stack says: ")
		b.WriteString(detail)
		b.WriteByte(')')
	}
	return &failure{b.String(), err}
}

// faultText returns the words for a fault, or the reason that the stack gives, followed
// by the advice. If the stack has named the other SA, the words include it.
func faultText(oe *klips.OpError) string {
	text := Fault(oe.Fault)
	if text == "" {
		return then(oe.Reason, remedy(oe.Fault))
	}
	if oe.Other != (klips.SAID{}) {
		text = strings.Replace(text, otherSA, oe.Other.String(), 1)
	}
	return text
}

// Line returns the text of an error for people. The advice for an unusable stack or run
// directory is added if the text does not have it.
func Line(err error) string {
	var said *failure
	if errors.As(err, &said) {
		return err.Error()
	}
	return then(err.Error(), remedy(unusable(err)))
}

// unusable returns the fault of an unusable stack or run directory, or FaultNone.
func unusable(err error) klips.Fault {
	var gone *klips.UnavailableError
	var dir *user.RundirError
	switch {
	case errors.As(err, &gone):
		return gone.Fault
	case errors.As(err, &dir):
		return dir.Fault
	}
	return klips.FaultNone
}

// then appends the advice remedy to a text; it may be empty.
func then(text, remedy string) string {
	if remedy == "" {
		return text
	}
	return text + "; " + remedy
}

// Cause returns the reason of an error of a stack or the system, without the operation.
func Cause(err error) string {
	var gone *klips.UnavailableError
	var oe *klips.OpError
	var errno syscall.Errno
	switch {
	case errors.As(err, &gone):
		return Line(gone)
	case errors.As(err, &oe) && oe.Fault != klips.FaultNone:
		return faultText(oe)
	case errors.As(err, &oe) && oe.Reason != "":
		return oe.Reason
	case errors.As(err, &errno):
		return Reason(errno)
	}
	return err.Error()
}

// text returns the meaning that an errno has for one operation; empty: it has none of its
// own.
func text(op string, errno syscall.Errno) string {
	for i := range texts {
		if t := &texts[i]; t.errno == errno && t.op == op {
			return t.text
		}
	}
	return ""
}

// meaning returns the meaning of an errno as the answer to op: the fault, then a
// semicolon and how to fix it. It does not name the object.
func meaning(op string, errno syscall.Errno) string {
	if t := text(op, errno); t != "" {
		return t
	}
	return verb(op) + ": " + Reason(errno)
}

// Reason returns the meaning of an errno for any operation, then a semicolon and how to
// fix it.
func Reason(errno syscall.Errno) string {
	if int(errno) < len(common) && common[errno] != "" {
		return common[errno]
	}
	name := unix.ErrnoName(errno)
	if name == "" {
		name = "errno " + strconv.Itoa(int(errno))
	}
	return fmt.Sprintf("the system refuses it with %s (%s); its log (dmesg) may say why", name, errno.Error())
}

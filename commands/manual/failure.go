package manual

import (
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
)

// A stepError is the failure of a step. It keeps the cause. It is never a usage error,
// because the user has not typed the arguments.
type stepError struct {
	what  string
	cause error
}

func (e *stepError) Error() string { return e.what + ": " + explain.Line(e.cause) }

// is reports whether the cause is one of the errnos.
func (e *stepError) is(errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(n syscall.Errno) bool { return errors.Is(e.cause, n) })
}

// absent reports whether the object that should be removed did not exist.
func (e *stepError) absent() bool {
	return e.is(syscall.ENOENT, syscall.ESRCH, syscall.ENXIO, syscall.EFAULT, syscall.ENODEV, syscall.EADDRNOTAVAIL)
}

// failed adds the name of the step to an error.
func (s *step) failed(err error) error {
	if err == nil {
		return nil
	}
	what := ""
	switch {
	case s.guard != nil:
		return &stepError{"guard", err} // the error names the flow
	case !s.asks() && s.script == "":
		what = s.text("", false)
	case s.script != "":
		what = s.script + " (" + s.verb + ")"
	default:
		what = s.applet()
		// Add the SA if the message does not name it.
		if id := s.said(); id != (klips.SAID{}) && !strings.Contains(err.Error(), id.String()) {
			what += " " + id.String()
		}
	}
	return &stepError{what, err}
}

// spared reports whether a failure of a step can be ignored.
func spared(s *step, err error) bool {
	var e *stepError
	return s.ifExists && errors.As(err, &e) && e.absent()
}

// routeError adds the meaning of the kernel's refusal of a route.
func routeError(r *routes.Route, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	text := ""
	switch errno {
	case syscall.EPERM, syscall.EACCES:
		text = "not permitted; run it as root (CAP_NET_ADMIN is needed)"
	case syscall.ENODEV:
		text = "there is no device " + r.Device + "; is the stack running? (ipsec setup status)"
	case syscall.ENETDOWN:
		text = r.Device + " is down; ip link set " + r.Device + " up"
	case syscall.EEXIST:
		text = "there is another route to this network; ip route lists it"
	case syscall.ESRCH:
		text = "there is no such route"
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH:
		text = "the gateway is not in a network of " + r.Device + "; give another next hop, or none"
	default:
		return err
	}
	return &explained{text, errno}
}

// deviceError adds the meaning of the kernel's refusal to change a device.
func deviceError(device string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.EPERM, syscall.EACCES:
		return &explained{"not permitted; run it as root (CAP_NET_ADMIN is needed)", errno}
	case syscall.ENODEV:
		return &explained{"there is no device " + device + " in this network namespace", errno}
	}
	return err
}

// An explained is an errno with words.
type explained struct {
	text  string
	errno syscall.Errno
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.errno }

package step

import (
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/clamp"
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

// failed adds the name of the step to its error, and the meaning of what the kernel has
// refused. It returns the errors of a configuration file, and nil, as they are.
func (s *Step) failed(err error) error {
	var inFile *conf.Error
	if err == nil || errors.As(err, &inFile) {
		return err // the line of the file is at fault, for each step that needs it
	}
	what := ""
	switch err = s.explain(err); {
	case s.Guard != nil:
		return &stepError{"guard", err} // the error names the flow
	case s.Clamp != nil:
		return &stepError{"mss", err}
	case !s.asks() && s.Script == "":
		what = s.Text("", false)
	case s.Script != "":
		what = s.Script + " (" + s.Verb + ")"
	default:
		what = s.applet()
		// Add the SA if the message does not name it.
		if id := s.SAID(); id != (klips.SAID{}) && !strings.Contains(err.Error(), id.String()) {
			what += " " + id.String()
		}
	}
	return &stepError{what, err}
}

// explain adds the meaning of the kernel's refusal of a step.
func (s *Step) explain(err error) error {
	switch {
	case s.Route != nil:
		return routeError(s.Route, err)
	case s.Guard != nil:
		return err // it is explained already
	case s.Backstop != nil:
		return routeError(&routes.Route{Dst: *s.Backstop}, err)
	case s.Clamp != nil:
		return clampError(err)
	case s.Device != "":
		return deviceError(s.Device, err)
	}
	return err
}

// spared reports whether a failure of a step can be ignored.
func spared(s *Step, err error) bool {
	var e *stepError
	return s.IfExists && errors.As(err, &e) && e.absent()
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
	case syscall.EINVAL:
		return &explained{device + " cannot have this MTU; give a smaller one", errno}
	case syscall.ENODEV:
		return &explained{"there is no device " + device + " in this network namespace", errno}
	}
	return err
}

// clampError adds the meaning of the kernel's refusal to change the segments of TCP.
func clampError(err error) error {
	switch {
	case errors.Is(err, clamp.ErrNone):
		return errors.New("this kernel has no usable nftables; leave mss out, or use stack user, which can do it for all connections (ipsec setup set mss=1)")
	case errors.Is(err, syscall.EPERM):
		return &explained{"not permitted; run it as root (CAP_NET_ADMIN is needed)", syscall.EPERM}
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

// Package stacks opens the stack that a command uses.
package stacks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/xfrm"
)

// Names are the stacks in the order in which they are tried.
var Names = [...]string{"user", "klips", "xfrm"}

// IsName reports whether a name is valid for a stack: one of Names, "auto" or "".
func IsName(name string) bool {
	return name == "" || name == "auto" || slices.Contains(Names[:], name)
}

// Choice returns the names for a sentence: "user, klips or xfrm".
func Choice() string {
	last := len(Names) - 1
	return strings.Join(Names[:last], ", ") + " or " + Names[last]
}

// An UnknownError is a name of a stack that does not exist.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("unknown stack %q; want %s", e.Name, Choice())
}

// A Config selects a stack, and has the stacks' paths. The zero Config means this
// machine's paths, and the first usable stack.
type Config struct {
	Stack    string // one of Names; "auto" or "": the first usable one
	RunDir   string // of the embedded stack's daemon; "": the default, see [user.Rundir]
	StateDir string // directory of stack xfrm's marks, an absolute path; "": none
	Kernel   classic.Config
}

// Open opens a stack. An unknown name is an *[UnknownError]. Most other errors are a
// *[klips.UnavailableError] or *[user.RundirError]; errors.Is finds fs.ErrNotExist if
// there is no stack, and fs.ErrPermission if this user may not use it.
func Open(_ context.Context, c Config) (klips.Stack, error) {
	if c.Stack != "" && c.Stack != "auto" {
		return c.open(c.Stack)
	}
	var reasons []string
	var errs []error
	for _, n := range Names {
		s, err := c.open(n)
		if err == nil {
			return s, nil
		}
		// If a daemon runs but refuses this user, that is the error to return: the
		// other stacks refuse every ordinary user, so their errors mean nothing. A
		// daemon with a bad directory is not skipped either.
		var bad *user.RundirError
		if errors.Is(err, fs.ErrPermission) && n != "xfrm" || errors.As(err, &bad) {
			return nil, err
		}
		errs = append(errs, err)
		reasons = append(reasons, fmt.Sprintf("%s: %s", n, why(err)))
	}
	return nil, &klips.UnavailableError{
		Fault: klips.FaultNoStack,
		Why:   fmt.Sprintf("%v (%s)", klips.FaultNoStack, strings.Join(reasons, "; ")),
		Err:   errors.Join(errs...),
	}
}

// why returns the reason in an error of open, without the name of the stack.
func why(err error) string {
	var u *klips.UnavailableError
	if errors.As(err, &u) {
		return u.Error()
	}
	return err.Error()
}

func (c *Config) open(name string) (s klips.Stack, err error) {
	switch name {
	case "user":
		s, err = openUser(c.RunDir)
	case "klips":
		s, err = openKlips(c.Kernel)
	case "xfrm":
		s, err = openXfrm(c.StateDir)
	default:
		return nil, &UnknownError{name}
	}
	if err != nil {
		return nil, fmt.Errorf("stack %s: %w", name, err)
	}
	return s, nil
}

func openKlips(c classic.Config) (klips.Stack, error) {
	s, err := classic.Open(c)
	if err != nil {
		return nil, err // not a nil *classic.Stack
	}
	return s, nil
}

// openXfrm opens the kernel's IPsec if it is usable: if this user may change it and it
// has ESP.
func openXfrm(statedir string) (klips.Stack, error) {
	s, err := xfrm.Open()
	if err != nil {
		return nil, err // not a nil *xfrm.Stack
	}
	s.KeepMarks(statedir)
	return s, nil
}

func openUser(rundir string) (klips.Stack, error) {
	dir, err := user.Rundir(rundir)
	if err != nil {
		return nil, err
	}
	c, err := user.Dial(user.SocketPath(dir))
	var bad *user.RundirError
	var peer *pfkey.PeerError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &bad):
		return nil, err
	case errors.As(err, &peer):
		return nil, &klips.UnavailableError{Fault: klips.FaultDaemonUser, Why: err.Error(), Err: err}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, &klips.UnavailableError{Fault: klips.FaultNoDaemon, Why: fmt.Sprintf("%v in %s", klips.FaultNoDaemon, dir), Err: fs.ErrNotExist}
	case errors.Is(err, fs.ErrPermission):
		return nil, &klips.UnavailableError{Fault: klips.FaultDaemonRights, Why: fmt.Sprintf("%v in %s", klips.FaultDaemonRights, dir), Err: fs.ErrPermission}
	}
	return nil, err
}

// Package stacks opens the stack that a command talks to.
package stacks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
)

// Names are the stacks in the order in which they are tried.
var Names = [...]string{"user", "klips", "xfrm"}

// Open opens the stack of that name; the empty name means $IPSEC_STACK, and
// "auto", or neither, the first that is there. The error says what is missing
// and what to do; errors.Is finds fs.ErrNotExist when there is no stack and
// fs.ErrPermission when this user may not use it.
func Open(_ context.Context, name string, getenv func(string) string) (klips.Stack, error) {
	if name == "" {
		name = getenv("IPSEC_STACK")
	}
	if name != "" && name != "auto" {
		return open(name, getenv)
	}
	var reasons []string
	var errs []error
	for _, n := range Names {
		s, err := open(n, getenv)
		if err == nil {
			return s, nil
		}
		// A daemon that is there but will not talk to us is the answer.
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		errs = append(errs, err)
		reasons = append(reasons, fmt.Sprintf("%s: %s", n, why(err)))
	}
	return nil, &unavailable{
		why:  strings.Join(reasons, "; "),
		msg:  "no stack can be used (" + strings.Join(reasons, "; ") + "); start the embedded one with: ipsec setup start",
		errs: errs,
	}
}

// why is the reason in an error of open, without advice.
func why(err error) string {
	var u *unavailable
	if errors.As(err, &u) {
		return u.why
	}
	return err.Error()
}

// An unavailable is a stack that cannot be used.
type unavailable struct {
	why  string // the bare reason
	msg  string // the reason and what to do
	errs []error
}

func (u *unavailable) Error() string   { return u.msg }
func (u *unavailable) Unwrap() []error { return u.errs }

func open(name string, getenv func(string) string) (klips.Stack, error) {
	switch name {
	case "user":
		return openUser(getenv)
	case "klips", "xfrm":
		return nil, &unavailable{
			why: "not in this version", msg: fmt.Sprintf("stack %s: not in this version; use --stack user", name),
			errs: []error{errors.ErrUnsupported},
		}
	}
	return nil, fmt.Errorf("stack %q: there is none of that name; the names are %s: %w",
		name, strings.Join(Names[:], ", "), fs.ErrNotExist)
}

func openUser(getenv func(string) string) (klips.Stack, error) {
	dir := user.Rundir(getenv)
	c, err := user.Dial(user.SocketPath(dir))
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		why := "no daemon runs in " + dir
		return nil, &unavailable{why, "stack user: " + why + "; start one with: ipsec setup start", []error{fs.ErrNotExist}}
	case errors.Is(err, fs.ErrPermission):
		who := "as the user who started it, or as root"
		if os.Geteuid() == 0 {
			who = "with the capabilities of root"
		}
		why := "no permission to talk to the daemon in " + dir
		return nil, &unavailable{why, "stack user: " + why + "; run this " + who, []error{fs.ErrPermission}}
	}
	return nil, fmt.Errorf("stack user: %w", err)
}

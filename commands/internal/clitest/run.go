// Package clitest runs applets in tests: in this process, with a world that the
// test makes and a stack that writes down what it is asked for.
package clitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A World is what an applet meets. The zero World has no input, no environment
// and a stack without any special ability.
type World struct {
	In       io.Reader
	Environ  map[string]string
	Stack    *Stack
	StackErr error // opening the stack fails with it
	// Wrap, if it is set, puts a stack of the test in front of Stack.
	Wrap     func(*Stack) klips.Stack
	Resolver syntax.Resolver
}

// A Result is what an applet did.
type Result struct {
	Status   int // 0, or as cli has it
	Out, Err string
	Opened   bool // the stack was opened
	Error    error
}

// Run runs an applet as the dispatcher does.
func Run(app *cli.App, w World, args ...string) Result {
	var r Result
	var out, errOut bytes.Buffer
	env := &cli.Env{
		Name:     "ipsec " + app.Name,
		In:       w.In,
		Out:      &out,
		Err:      &errOut,
		Getenv:   func(name string) string { return w.Environ[name] },
		Resolver: w.Resolver,
		Version:  "1.2.3",
		Stack: func(context.Context) (klips.Stack, error) {
			r.Opened = true
			if w.StackErr != nil {
				return nil, w.StackErr
			}
			if w.Stack == nil {
				w.Stack = &Stack{}
			}
			if w.Wrap != nil {
				return w.Wrap(w.Stack), nil
			}
			return serial.New(w.Stack), nil
		},
	}
	r.Error = app.Run(context.Background(), env, args)
	var usage *cli.UsageError
	var exit *cli.ExitError
	switch {
	case r.Error == nil:
		r.Status = cli.ExitOK
	case errors.As(r.Error, &exit):
		r.Status = exit.Code
	default:
		r.Status = cli.ExitFailed
		if errors.As(r.Error, &usage) {
			r.Status = cli.ExitUsage
		}
		fmt.Fprintf(&errOut, "%s: %s\n", env.Name, explain.Line(r.Error))
	}
	r.Out, r.Err = out.String(), errOut.String()
	return r
}

// Names is a resolver that knows gw1, gw2 (IPv4) and gw6 (IPv6), in any case.
func Names(name string, f syntax.Family) (netip.Addr, error) {
	a, ok := map[string]netip.Addr{
		"gw1": netip.MustParseAddr("10.1.1.1"),
		"gw2": netip.MustParseAddr("10.2.2.2"),
		"gw6": netip.MustParseAddr("3049:1::1"),
	}[strings.ToLower(name)]
	if !ok || f != syntax.FamilyAny && syntax.FamilyOf(a) != f {
		return netip.Addr{}, errors.New("no such host")
	}
	return a, nil
}

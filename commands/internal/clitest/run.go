// Package clitest runs applets in tests: in this process, with an environment of the
// test and a stack that records its calls.
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

// A World is the environment of an applet. The zero World has no input, no environment
// variables and a stack without special abilities.
type World struct {
	In       io.Reader
	Environ  map[string]string
	Stack    *Stack
	StackErr error // the error of opening the stack
	// Wrap, if it is set, returns a stack of the test that wraps Stack.
	Wrap     func(*Stack) klips.Stack
	Resolver syntax.Resolver
}

// A Result is the output and the effects of an applet.
type Result struct {
	Status   int // exit status, see package cli
	Out, Err string
	Opened   bool // the stack was opened
	Error    error
}

// Run runs an applet in the same way as the dispatcher.
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
		Version:  func() string { return "1.2.3" },
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

// Names is a resolver that finds gw1, gw2 (IPv4) and gw6 (IPv6), in upper or lower
// case.
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

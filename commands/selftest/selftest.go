// Package selftest is the applet that tests the algorithms of this program with known
// results.
package selftest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/manual/derive"
	"github.com/klips-go/ipsec/klips/user/selftest"
)

// App returns the applet.
func App() *cli.App { return app(tests) }

// app returns the applet with other tests.
func app(tests func() []selftest.Test) *cli.App {
	a := &cli.App{
		Name:     "selftest",
		Short:    "test the algorithms of this program with known packets",
		Synopsis: []string{"[--json]"},
		Options:  append([]getopt.Option{cli.JSONOption("the results")}, cli.CommonOptions()...),
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		var c cli.Common
		err := c.Parse(a.Options, args, getopt.EnvMode(env.Getenv), func(string, string) error { return nil })
		return c.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
			return report(ctx, env, tests(), c.JSON)
		}))
	}
	return a
}

// keys is what the tests of derived keys are of.
const keys = "derived keys"

// tests returns all tests of the program.
func tests() []selftest.Test {
	l := append(selftest.Tests(), selftest.Test{Of: []string{keys}, Source: "RFC 5869 test case 1", Check: derive.CheckHKDF})
	for _, v := range derive.Vectors() {
		l = append(l, selftest.Test{Of: []string{keys}, Source: "HKDF in Python", Check: v.Check})
	}
	return l
}

// report runs the tests and prints the results. The error names what has failed.
func report(ctx context.Context, env *cli.Env, tests []selftest.Test, asJSON bool) error {
	results, err := run(ctx, tests)
	if err != nil {
		return err
	}
	if asJSON {
		err = output.Print(env, output.SelftestList{Head: output.NewHead(""), Tests: results})
	} else {
		err = cli.Print(env, func(w io.Writer) error { return write(w, results) })
	}
	if err != nil {
		return err
	}
	var failed []string
	for _, r := range results {
		if !r.Passed {
			failed = append(failed, r.Of)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%s: other results than the known ones; do not use this program on this machine, and compare with another build or machine", strings.Join(failed, ", "))
	}
	return nil
}

// run runs the tests. There is one result for each name that they have, in their order.
func run(ctx context.Context, tests []selftest.Test) (results []output.SelfTest, err error) {
	place := map[string]int{}
	for _, t := range tests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := check(t)
		for _, of := range t.Of {
			i, ok := place[of]
			if !ok {
				i = len(results)
				place[of] = i
				results = append(results, output.SelfTest{Of: of, Passed: true, Sources: []string{}})
			}
			r := &results[i]
			if !slices.Contains(r.Sources, t.Source) {
				r.Sources = append(r.Sources, t.Source)
			}
			if err != nil {
				r.Passed = false
				r.Failures = append(r.Failures, output.SelfTestFailure{Source: t.Source, Difference: err.Error()})
			}
		}
	}
	return results, nil
}

// check runs a test. A panic of broken code is an error of its test, so that the others are
// made too.
func check(t selftest.Test) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the code fails: %v", p)
		}
	}()
	return t.Check()
}

// write prints a line for each result, and one for each failure.
func write(w io.Writer, results []output.SelfTest) error {
	for _, r := range results {
		state := "ok"
		if !r.Passed {
			state = "FAILED"
		}
		fmt.Fprintf(w, "%s: %s (%s)\n", r.Of, state, strings.Join(r.Sources, "; "))
		for _, f := range r.Failures {
			fmt.Fprintf(w, "    %s: %s\n", f.Source, f.Difference)
		}
	}
	return nil
}

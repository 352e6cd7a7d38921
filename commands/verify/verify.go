// Package verify is the applet that checks whether this host is fit for IPsec, and how to mend
// what is not. It changes nothing.
package verify

import (
	"context"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App { return app(thisHost()) }

// app returns the applet for a host.
func app(h *host) *cli.App {
	a := &cli.App{
		Name:     "verify",
		Short:    "check whether this host is fit for IPsec",
		Synopsis: []string{"[--json]"},
		Options:  append([]getopt.Option{cli.JSONOption("the checks")}, cli.CommonOptions()...),
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		var c cli.Common
		err := c.Parse(a.Options, args, getopt.EnvMode(env.Getenv), func(string, string) error { return nil })
		return c.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
			return verify(ctx, env, h, c.JSON)
		}))
	}
	return a
}

func verify(ctx context.Context, env *cli.Env, h *host, asJSON bool) error {
	s := newSurvey(ctx, env, h)
	defer s.close()
	for _, check := range []func(context.Context){
		s.program, s.stackChosen, s.abilities, s.rights, s.namespaces, s.tunDevice,
		s.forwarding, s.devices, s.redirects, s.firewall, s.programs, s.foreign, s.files, s.stateDirectory, s.clock,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		check(ctx)
	}
	var err error
	if asJSON {
		err = output.Print(env, output.VerifyList{Head: output.NewHead(s.name), Checks: s.findings})
	} else {
		err = cli.Print(env, func(w io.Writer) error { return write(w, s.findings) })
	}
	if err != nil {
		return err
	}
	for _, f := range s.findings {
		if f.State == failed {
			return &cli.ExitError{Code: cli.ExitFailed} // the lines have the reasons
		}
	}
	return nil
}

// The states of a check.
const (
	ok      = "ok"
	warning = "warning"
	failed  = "failed"
	unknown = "unknown"
)

// write prints a line for each check.
func write(w io.Writer, findings []output.Verification) error {
	for _, f := range findings {
		state := f.State
		if state == failed {
			state = "FAILED"
		}
		fmt.Fprintf(w, "%-8s %s: %s", state, f.Check, f.Result)
		if f.Mend != "" {
			fmt.Fprintf(w, "; %s", f.Mend)
		}
		fmt.Fprintln(w)
	}
	return nil
}

// A survey is what the checks look at, and what they have found.
type survey struct {
	*host
	env      *cli.Env
	stack    klips.Stack // nil: there is none
	name     string      // of the stack
	problem  error       // why there is none
	eroutes  []klips.Eroute
	sas      []klips.SA
	attached []klips.Device // devices with a physical device
	findings []output.Verification
}

func newSurvey(ctx context.Context, env *cli.Env, h *host) *survey {
	s := &survey{host: h, env: env}
	if s.stack, s.problem = env.Stack(ctx); s.problem != nil {
		return s
	}
	s.name = s.stack.Info().Name
	t, err := s.stack.Snapshot(ctx, klips.Want{Eroutes: true, SAs: true, Devices: true})
	if err != nil {
		s.add(unknown, "tables", "they cannot be read: "+explain.Cause(err), "")
		return s
	}
	s.eroutes, s.sas = t.Eroutes, t.SAs
	for _, d := range t.Devices {
		if d.Physical != "" {
			s.attached = append(s.attached, d)
		}
	}
	return s
}

func (s *survey) close() {
	if s.stack != nil {
		s.stack.Close()
	}
}

// add adds the result of a check, and how to mend it; mend is empty if nothing is to mend.
func (s *survey) add(state, check, result, mend string) {
	s.findings = append(s.findings, output.Verification{Check: check, State: state, Result: result, Mend: mend})
}

// Package klipsdebug is the applet that sets and lists the debug masks of a
// stack.
package klipsdebug

import (
	"context"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "klipsdebug",
		Short:    "set and list debug masks",
		Synopsis: []string{"[--json]", "{--set | --clear} AREA", "--all", "--none"},
		Options:  options(),
		Parse:    command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	req, err := parse(env, args)
	if req.by == "" {
		return req.Command(env, App, err, list.Reader(&req.Common))
	}
	return req.Command(env, App, err, req)
}

// list is the table that is printed if no action is given.
var list = listing.Table{
	Name: "ipsec_klipsdebug", About: "debug masks", Want: klips.Want{Debug: true},
	Write: func(w io.Writer, t *klips.Snapshot) error { return procfs.WriteKlipsdebug(w, t.Debug) },
	JSON:  output.NewKlipsdebugList,
}

// Run changes masks.
func (req *request) Run(ctx context.Context, env *cli.Env) error { return cli.Change(ctx, env, req) }

// Changes returns one change.
func (req *request) Changes(_ context.Context, env *cli.Env, s klips.Stack) ([]klips.Change, error) {
	req.DebugStack(env, s)
	req.Debugf(env, "change masks: set %v, masks %x", req.change.Set, req.change.Masks)
	return []klips.Change{klips.SetDebug{DebugChange: req.change}}, nil
}

// Refused adds words to an error of the change.
func (req *request) Refused(_ context.Context, _ klips.Stack, c klips.Change, err error) error {
	return explain.Error(c, "", err)
}

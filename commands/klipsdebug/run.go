// Package klipsdebug is the applet that sets and lists the debug masks of a
// stack.
package klipsdebug

import (
	"context"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "klipsdebug",
		Short:    "set and list what the stack says of its work",
		Synopsis: []string{"", "{--set | --clear} AREA", "--all", "--none"},
		Options:  options(),
		Run:      run,
	}
}

func run(ctx context.Context, env *cli.Env, args []string) error {
	req, err := parse(env, args)
	stack, err := req.Open(ctx, env, App(), err)
	if stack == nil {
		return err
	}
	defer stack.Close()
	if req.by != "" {
		req.Debugf(env, "change masks: set %v, masks %x", req.change.Set, req.change.Masks)
		return explain.Error(explain.SetDebug, "", stack.SetDebug(ctx, req.change))
	}
	return listing.Print(ctx, env, stack, listing.Table[klips.Debug]{
		Name: "ipsec_klipsdebug", About: "debug masks", Read: klips.Stack.Debug, Write: procfs.WriteKlipsdebug})
}

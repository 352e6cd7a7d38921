// Package tncfg is the applet that makes virtual devices and attaches them to physical
// ones.
package tncfg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "tncfg",
		Short: "bind virtual devices ipsecN to physical ones, list them",
		Synopsis: []string{
			"[--json]",
			"--attach --virtual VIRTUAL --physical PHYSICAL [--direct]",
			"--detach --virtual VIRTUAL",
			"--clear",
			"--create VIRTUAL",
			"--delete VIRTUAL",
		},
		Options: options(),
		Parse: func(env *cli.Env, args []string) (cli.Command, error) {
			return command(env, args, func(device string) ([]routes.Route, error) { return routes.Into(device) })
		},
	}
}

// command returns the applet's command for a host; into lists the routes into a device.
func command(env *cli.Env, args []string, into func(device string) ([]routes.Route, error)) (cli.Command, error) {
	req, err := parse(env, args)
	req.into = into
	if req.by == "" {
		return req.Command(env, App, err, list.Reader(&req.Common))
	}
	return req.Command(env, App, err, req)
}

// list is the table that is printed if no action is given.
var list = listing.Table{
	Name: "ipsec_tncfg", About: "devices", Want: klips.Want{Devices: true},
	Write: func(w io.Writer, t *klips.Snapshot) error { return procfs.WriteTncfg(w, t.Devices) },
	JSON:  output.NewTncfgList,
}

// Run changes devices.
func (req *request) Run(ctx context.Context, env *cli.Env) error { return cli.Change(ctx, env, req) }

// Changes returns one change.
func (req *request) Changes(_ context.Context, env *cli.Env, s klips.Stack) ([]klips.Change, error) {
	req.DebugStack(env, s)
	req.Debugf(env, "%s %s %s", req.by, req.virtual, req.physical)
	switch req.by {
	case "attach":
		return []klips.Change{klips.Attach{Virtual: req.virtual, Physical: req.physical, Direct: req.direct}}, nil
	case "detach":
		return []klips.Change{klips.Detach{Virtual: req.virtual}}, nil
	case "clear":
		return []klips.Change{klips.DetachAll{}}, nil
	case "create":
		return []klips.Change{klips.CreateDevice{Virtual: req.virtual}}, nil
	}
	if err := unused(req.virtual, req.into); err != nil {
		return nil, err
	}
	return []klips.Change{klips.DeleteDevice{Virtual: req.virtual}}, nil
}

// Refused adds words to an error of the change.
func (req *request) Refused(_ context.Context, _ klips.Stack, c klips.Change, err error) error {
	if a, ok := c.(klips.Attach); ok {
		return explain.Error(c, a.Virtual, aboutPhysical(a.Physical, err))
	}
	return explain.Error(c, c.Object(), err)
}

// Done prints a note if a KLIPS kernel reports that a device was made or removed, but
// has done nothing.
func (req *request) Done(_ context.Context, env *cli.Env, _ klips.Stack, o []klips.Outcome) error {
	err := o[0].NoEffect
	if err == nil {
		return nil
	}
	answer, fact := "made", "it is not listed"
	if req.by == "delete" {
		answer, fact = "removed", "it is still there; what the module has made goes with the module"
	}
	switch {
	case errors.Is(err, syscall.EEXIST):
		fact = "it was there before"
	case errors.Is(err, syscall.ENOENT):
		fact = "it was not there"
	}
	cli.Notef(env, "%s: the kernel answers that it is %s, but nothing has changed: %s (ipsec tncfg lists the devices)", req.virtual, answer, fact)
	return nil
}

// unused refuses to delete a device while routes lead into it: the kernel would remove
// them, and their packets would leave in clear if other routes take them.
func unused(device string, into func(device string) ([]routes.Route, error)) error {
	list, err := into(device)
	switch {
	case err != nil:
		return fmt.Errorf("%s: not deleted: the routes into it are not known: %w", device, err)
	case len(list) == 0:
		return nil
	}
	r := list[0]
	del := "ip route del"
	if r.Dst.Addr().Is6() {
		del = "ip -6 route del"
	}
	if n := len(list) - 1; n > 0 {
		return fmt.Errorf("%s: not deleted: the route %s and %d more lead into it, and their packets could leave in clear without it; remove them first, as with %s %s",
			device, r, n, del, r)
	}
	return fmt.Errorf("%s: not deleted: the route %s leads into it, and its packets could leave in clear without it; remove it first with %s %s",
		device, r, del, r)
}

// aboutPhysical changes an ENXIO error so that it names the physical device, whichever
// device the stack has named.
func aboutPhysical(physical string, err error) error {
	if !errors.Is(err, syscall.ENXIO) {
		return err
	}
	named := &klips.OpError{Op: "attach", Object: physical, Err: err}
	var oe *klips.OpError
	if errors.As(err, &oe) {
		named.Detail = oe.Detail
	}
	return named
}

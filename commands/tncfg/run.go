// Package tncfg is the applet that makes virtual devices and binds them to
// physical ones.
package tncfg

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
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
			"",
			"--attach --virtual VIRTUAL --physical PHYSICAL",
			"--detach --virtual VIRTUAL",
			"--clear",
			"--create VIRTUAL",
			"--delete VIRTUAL",
		},
		Options: options(),
		Run: func(ctx context.Context, env *cli.Env, args []string) error {
			return run(ctx, env, args, func(device string) ([]routes.Route, error) { return routes.Into(device) })
		},
	}
}

// run is the applet on a host of which into lists the routes into a device.
func run(ctx context.Context, env *cli.Env, args []string, into func(device string) ([]routes.Route, error)) error {
	req, err := parse(env, args)
	stack, err := req.Open(ctx, env, App(), err)
	if stack == nil {
		return err
	}
	defer stack.Close()
	if req.by != "" {
		req.Debugf(env, "%s %s %s", req.by, req.virtual, req.physical)
	}
	switch req.by {
	case "attach":
		return attach(ctx, stack, req)
	case "detach":
		return explain.Error(explain.Detach, req.virtual, stack.Detach(ctx, req.virtual))
	case "clear":
		return explain.Error(explain.DetachAll, "", stack.DetachAll(ctx))
	case "create":
		return changed(env, explain.CreateDevice, req.virtual, stack.CreateDevice(ctx, req.virtual))
	case "delete":
		if err := unused(req.virtual, into); err != nil {
			return err
		}
		return changed(env, explain.DeleteDevice, req.virtual, stack.DeleteDevice(ctx, req.virtual))
	}
	return listing.Print(ctx, env, stack, listing.Table[[]klips.Device]{
		Name: "ipsec_tncfg", About: "devices", Read: klips.Stack.Devices, Write: procfs.WriteTncfg})
}

// changed is the end of a command that makes or removes a device. Where a KLIPS
// kernel answers that it is done and does nothing, the classic tool succeeded; here
// a note says so.
func changed(env *cli.Env, op explain.Op, virtual string, err error) error {
	var oe *klips.OpError
	if !errors.As(err, &oe) || oe.Fault != klips.FaultNoEffect {
		return explain.Error(op, virtual, err)
	}
	answer, fact := "made", "it is not listed"
	if op == explain.DeleteDevice {
		answer, fact = "removed", "it is still there; what the module has made goes with the module"
	}
	switch {
	case errors.Is(err, syscall.EEXIST):
		fact = "it was there before"
	case errors.Is(err, syscall.ENOENT):
		fact = "it was not there"
	}
	cli.Notef(env, "%s: the kernel answers that it is %s, but nothing has changed: %s (ipsec tncfg lists the devices)", virtual, answer, fact)
	return nil
}

// unused refuses to delete a device while routes lead into it: they would go with
// it, and their packets would leave in clear where other routes take them.
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

// attach binds a device. Whichever device a stack names, ENXIO is about the
// physical one.
func attach(ctx context.Context, stack klips.Stack, req *request) error {
	err := stack.Attach(ctx, req.virtual, req.physical)
	if errors.Is(err, syscall.ENXIO) {
		named := &klips.OpError{Op: "attach", Object: req.physical, Err: err}
		var oe *klips.OpError
		if errors.As(err, &oe) {
			named.Detail = oe.Detail
		}
		err = named
	}
	return explain.Error(explain.Attach, req.virtual, err)
}

package manual

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
)

// Boot does what the machine's configuration file asks for when its stack starts, as the
// setup of KLIPS did: it attaches the devices of interfaces=, with the addresses of the
// physical ones, and brings up the connections of manualstart=. A file that cannot be read
// may be that of another program, and gets a note. The errors are those of all connections
// that did not come up.
func Boot(ctx context.Context, env *cli.Env) error {
	h, n := host.This(ctx, env)
	return boot(ctx, env, environ.BootConf(env.Getenv), h, n)
}

func boot(ctx context.Context, env *cli.Env, file string, h host.Host, n host.Network) error {
	if file == "" {
		return nil
	}
	f, err := configure(conf.Loader{ReadFile: conf.ReadTrusted}, file, h, host.Identity{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		cli.Notef(env, "no connection is brought up: %v", err)
		return nil
	}
	f.attaches = true
	var errs []error
	for _, b := range f.bindings {
		if err := bind(ctx, env, b, n); err != nil {
			errs = append(errs, err)
		}
	}
	start := f.file.Setup("manualstart")
	for _, name := range strings.Fields(start.Value) {
		if err := conf.CheckName(name); err != nil {
			errs = append(errs, start.Error(err.Error()))
			continue
		}
		for _, name := range f.pairs(name) {
			r := &request{operation: "up", names: []string{name}, config: file}
			if _, err := r.carryOut(ctx, env, h, n, f); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, control(h, f))...)
}

// bind attaches a virtual device, unless it is attached.
func bind(ctx context.Context, env *cli.Env, b host.Binding, n host.Network) error {
	if b.Missing != nil {
		return b.Param.Error(fmt.Sprintf("%s: %v", defaultRoute, b.Missing))
	}
	stack, err := env.Stack(ctx)
	if err != nil {
		return err
	}
	devices, err := klips.ReadDevices(ctx, stack)
	stack.Close()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(devices, func(d klips.Device) bool { return d.Name == b.Virtual })
	if i >= 0 && devices[i].Physical != "" {
		return nil
	}
	k := &connection{name: b.Virtual, iface: b.Virtual}
	x := newExecutor(env, k, nil, n, false)
	x.Plan.Steps = append(k.bring(b.Physical, i >= 0), k.ready(b.Physical, n)...)
	if err := x.All(ctx); err != nil {
		return b.Param.Error(err.Error())
	}
	return nil
}

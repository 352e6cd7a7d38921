// Package klipsd is the applet klipsd: the embedded stack's daemon in the foreground,
// for init systems.
package klipsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strconv"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/klips/user/memory"
)

// App returns the applet. recorded returns what the connections have that are recorded in a
// run directory; nil: none are.
func App(recorded func(rundir string) user.Counts) *cli.App {
	return &cli.App{
		Name:     "klipsd",
		Short:    "run the embedded stack's daemon in the foreground",
		Synopsis: []string{""},
		Options: append([]getopt.Option{
			{Name: "ready-fd", Arg: "N", Help: "write to file descriptor N when ready", Hidden: true},
			{Name: "settings-fd", Arg: "N", Help: "run confined, with the settings in file descriptor N", Hidden: true},
			{Name: "take-over", Help: "take over everything from the running daemon, which then ends", Hidden: true},
		}, cli.CommonOptions()...),
		Parse: func(env *cli.Env, args []string) (cli.Command, error) { return command(env, args, recorded) },
	}
}

func command(env *cli.Env, args []string, recorded func(string) user.Counts) (cli.Command, error) {
	app := func() *cli.App { return App(recorded) }
	var common cli.Common
	fds := map[string]int{"ready-fd": -1, "settings-fd": -1}
	takeOver := false
	err := common.Parse(app().Options, args, getopt.EnvMode(env.Getenv), func(name, value string) error {
		if name == "take-over" {
			takeOver = true
			return nil
		}
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n < 3 {
			return cli.Usagef("--%s %s: not a file descriptor above 2", name, quote.Value(value))
		}
		fds[name] = int(n)
		return nil
	})
	return common.Command(env, app, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		if fds["settings-fd"] >= 0 {
			return runConfined(ctx, env, fds["settings-fd"])
		}
		rundir, err := environ.Rundir(env.Getenv)
		if err != nil {
			return err
		}
		s := settings{
			Rundir: rundir, Statedir: environ.Statedir(env.Getenv), Debug: common.Debug, Ready: fds["ready-fd"],
			Memory: memory.Limit("/"), Collector: memory.Collector(), Processors: runtime.GOMAXPROCS(0),
		}
		return explain(rundir, prepare(ctx, env, s, takeOver, recorded))
	}))
}

// isTakeOver reports whether another daemon has refused the handover.
func isTakeOver(err error) bool {
	var op *klips.OpError
	return errors.As(err, &op) && op.Op == "take over"
}

// explain adds what to do about common failures.
func explain(rundir string, err error) error {
	var running *user.Running
	var bad *user.RundirError
	var tun *host.TUNError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return err
	case errors.Is(err, confine.ErrProgram):
		return fmt.Errorf("%w; the daemon executes it again without the rights that it does not need: mount /proc, and allow programs on the program's file system", err)
	case isTakeOver(err) && errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w; the daemon that runs is of a version that hands nothing over", err)
	case isTakeOver(err) && errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("%w; the daemon that runs is in another network namespace", err)
	case isTakeOver(err) && errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w; the daemon that runs gives its keys to root only", err)
	case errors.As(err, &running):
		return fmt.Errorf("%s: %w; stop it with: ipsec setup stop", rundir, err)
	case errors.As(err, &tun) && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run it as root with CAP_NET_ADMIN, or in a user namespace of its own (unshare -Urn) with IPSEC_RUNDIR set; a container must be given the device too", err)
	case errors.As(err, &tun):
		return fmt.Errorf("%w; load the driver with: modprobe tun (a container must be given the device by who starts it)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; it needs CAP_NET_ADMIN and CAP_NET_RAW, and %s to write to: run it as root, or in a user namespace of its own (unshare -Urn) with IPSEC_RUNDIR set", err, rundir)
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("%w; a device of that name is there already: does another IPsec stack run here?", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w; free some room on the file system of %s", err, rundir)
	}
	return err
}

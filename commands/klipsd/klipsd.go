// Package klipsd is the applet klipsd: the embedded stack's daemon in the foreground,
// for init systems.
package klipsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/klips/user/memory"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "klipsd",
		Short:    "run the embedded stack's daemon in the foreground",
		Synopsis: []string{""},
		Options: append([]getopt.Option{
			{Name: "ready-fd", Arg: "N", Help: "write to file descriptor N when ready", Hidden: true},
			{Name: "take-over", Help: "take over everything from the running daemon, which then ends", Hidden: true},
		}, cli.CommonOptions()...),
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	var common cli.Common
	readyFD, takeOver := -1, false
	err := common.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(name, value string) error {
		if name == "take-over" {
			takeOver = true
			return nil
		}
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n < 3 {
			return cli.Usagef("--ready-fd %s: not a file descriptor above 2", quote.Value(value))
		}
		readyFD = int(n)
		return nil
	})
	return common.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		return run(ctx, env, common.Debug, readyFD, takeOver)
	}))
}

// run runs the daemon.
func run(ctx context.Context, env *cli.Env, debug bool, readyFD int, takeOver bool) error {
	// The daemon must go on when its terminal closes or nobody reads its log any more.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	var ready func()
	if readyFD >= 0 {
		ready = func() { background.Ready(readyFD) }
	}
	_ = memory.Spare() // without the right, the kernel may kill the daemon when memory is short
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	rundir, err := environ.Rundir(env.Getenv)
	if err != nil {
		return err
	}
	err = daemon.Run(ctx, daemon.Config{
		Rundir:   rundir,
		Statedir: environ.Statedir(env.Getenv),
		Version:  env.Version,
		Log:      slog.New(slog.NewTextHandler(env.Err, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Debug:    debug,
		TakeOver: takeOver,
		Memory:   memory.Bound(memory.Limit("/"), engine.BaseMemory),
		Ready:    ready,
		Moved:    func(ctx context.Context) { renew(ctx, env, rundir) },
	})
	return explain(rundir, err)
}

// renew sets up the connections again whose default route has changed. It runs in
// another process, because it uses this daemon in the same way as an operator does.
func renew(ctx context.Context, env *cli.Env, rundir string) {
	if !followed.Any(rundir) {
		return
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "manual", "--renew")
	cmd.Args[0] = "ipsec"
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "IPSEC_STACK=user", "IPSEC_RUNDIR="+rundir)
	cmd.Stdout, cmd.Stderr = env.Err, env.Err
	// After SIGTERM the process rolls back what it has begun.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		fmt.Fprintf(env.Err, "ipsec klipsd: ipsec manual --renew: %v\n", err)
	}
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

package klipsd

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/helper"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// help is the helper of the daemon at the other end of a descriptor: see package
// helper.
func help(env *cli.Env, fd int) error {
	// It ends after the daemon.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT, syscall.SIGTERM)
	syscall.CloseOnExec(fd)
	rundir, err := environ.Rundir(env.Getenv)
	if err != nil {
		return err
	}
	return helper.Serve(os.NewFile(uintptr(fd), "daemon"), helper.Duties{
		Moved: func(ctx context.Context) error { return renew(ctx, env, rundir) },
		Port:  rawip.TakePort,
		TUN:   host.OpenTUN,
		Remove: func(socket bool) {
			if dir, err := user.OpenDir(rundir); err == nil {
				dir.RemoveFiles(socket)
				dir.Close()
			}
		},
	})
}

// renew sets up the connections again whose default route has changed. It runs in
// another process, because it uses the daemon in the same way as an operator does.
func renew(ctx context.Context, env *cli.Env, rundir string) error {
	if !followed.Any(rundir) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "manual", "--renew")
	cmd.Args[0] = "ipsec"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = env.Err, env.Err
	// After SIGTERM the process rolls back what it has begun.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd.Run()
}

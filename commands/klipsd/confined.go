package klipsd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/helper"
	"github.com/klips-go/ipsec/klips/user/memory"
)

// runConfined is the second step: it runs the daemon with the settings in a descriptor.
func runConfined(ctx context.Context, env *cli.Env, fd int) error {
	// SIGCHLD: the helper is a child of this process, which does not wait for it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGCHLD)
	s, err := readSettings(fd)
	if err != nil {
		return err
	}
	refused := append(s.Refused, confine.Enter(confine.Files{
		Read:  []string{"/proc"},
		Write: statedir(s.State),
		Use:   []string{"/dev/net/tun"},
	})...)
	runtime.GOMAXPROCS(s.Processors)
	socket := os.NewFile(uintptr(s.Helper), "helper")
	syscall.CloseOnExec(s.Helper)
	h, err := helper.NewClient(socket)
	if err != nil {
		return err
	}
	defer h.Close()
	log := slog.New(slog.NewTextHandler(env.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	place, err := daemon.Adopt(s.Rundir, s.Place, func(socket bool) {
		if err := h.Remove(socket); err != nil {
			log.Warn("the daemon's files are not removed", "rundir", s.Rundir, "err", err)
		}
	})
	if err != nil {
		return err
	}
	var state *os.File
	if s.State >= 0 {
		syscall.CloseOnExec(s.State)
		state = os.NewFile(uintptr(s.State), s.Statedir)
	}
	var ready func()
	if s.Ready >= 0 {
		syscall.CloseOnExec(s.Ready)
		ready = func() { background.Ready(s.Ready) }
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err = daemon.Run(ctx, daemon.Config{
		Place:    place,
		Statedir: s.Statedir,
		State:    state,
		Version:  env.Version,
		Log:      log,
		Debug:    s.Debug,
		Memory:   memory.Bound(s.Memory, s.Collector, engine.BaseMemory),
		Ready:    ready,
		Helper:   h,
		Rights: func() confine.Rights {
			r, err := confine.Read(true, refused)
			if err != nil {
				log.Warn("the rights of the daemon are not known", "err", err)
			}
			return r
		},
		Moved: func(ctx context.Context) {
			if err := h.Moved(ctx); err != nil && ctx.Err() == nil {
				log.Warn("connections that use the default route are not set up again", "err", err)
			}
		},
	})
	return explain(s.Rundir, err)
}

// readSettings reads the settings, and closes their descriptor.
func readSettings(fd int) (s settings, err error) {
	f := os.NewFile(uintptr(fd), "settings")
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	return s, json.NewDecoder(f).Decode(&s)
}

// statedir returns the path of the open state directory, if there is one: the daemon
// may not be able to reach it from the root directory.
func statedir(fd int) []string {
	if fd < 0 {
		return nil
	}
	return []string{fmt.Sprintf("/proc/self/fd/%d", fd)}
}

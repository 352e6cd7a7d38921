package klipsd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/klips/user/memory"
)

// runConfined is the second step: it runs the daemon with the settings in a descriptor.
func runConfined(ctx context.Context, env *cli.Env, fd int) error {
	// SIGCHLD: a process that follows the default route may be a child of this one, which
	// does not wait for it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGCHLD)
	reap()
	s, err := readSettings(fd)
	if err != nil {
		return err
	}
	if len(s.Place) == 0 {
		return errors.New("the settings have no run directory")
	}
	refused := append(s.Refused, confine.Enter(confine.Files{
		Read:  []string{"/proc"},
		Write: directories(s.Place[0], s.State),
		Use:   []string{host.TUNPath},
	})...)
	if s.Processors != runtime.GOMAXPROCS(0) { // else Go follows the limits of the control group
		runtime.GOMAXPROCS(s.Processors)
	}
	log := slog.New(slog.NewTextHandler(env.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	place, err := daemon.Adopt(s.Rundir, s.Place)
	if err != nil {
		return err
	}
	var state *os.File
	if s.State >= 0 {
		syscall.CloseOnExec(s.State)
		state = os.NewFile(uintptr(s.State), s.Statedir)
	}
	m := openManager(s.Notify)
	notified := func(err error) {
		if err != nil {
			log.Warn("the service manager was not notified", "err", err)
		}
	}
	ready := func() {
		if s.Ready >= 0 {
			background.Ready(s.Ready)
		}
		notified(m.ready(fmt.Sprintf("version %s in %s", env.Version(), s.Rundir)))
	}
	if s.Ready >= 0 {
		syscall.CloseOnExec(s.Ready)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	lanes := engine.LanesFor(s.Processors, s.Memory)
	defer context.AfterFunc(ctx, func() { notified(m.stopping()) })()
	err = daemon.Run(ctx, daemon.Config{
		Place:    place,
		Statedir: s.Statedir,
		State:    state,

		StateProblem: s.StateProblem,
		Version:      env.Version(),
		Log:          log,
		Debug:        s.Debug,
		Lanes:        lanes,
		Memory:       memory.Bound(s.Memory, s.Collector, engine.BaseMemory(lanes)),
		Ready:        ready,
		Rights: func() confine.Rights {
			r, err := confine.Read(refused)
			if err != nil {
				log.Warn("the rights of the daemon are not known", "err", err)
			}
			return r
		},
	})
	return explain(s.Rundir, err)
}

// reap removes the children of this process that have ended before it ignored SIGCHLD:
// they do not vanish by themselves (wait(2)).
func reap() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.EINTR && pid <= 0 {
			return
		}
	}
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

// directories returns the paths of open directories: the daemon may not be able to reach
// them from the root directory. A descriptor of -1 is left out.
func directories(fds ...int) (paths []string) {
	for _, fd := range fds {
		if fd >= 0 {
			paths = append(paths, fmt.Sprintf("/proc/self/fd/%d", fd))
		}
	}
	return paths
}

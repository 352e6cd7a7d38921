package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips/user"
	ipsecd "github.com/klips-go/ipsec/klips/user/daemon"
)

// A service manager that runs a daemon must also run the next one: otherwise it would hold
// the service for ended, or start one more. It starts the next one when the one before has
// ended. Meanwhile this process has the daemon's state.

// supervisors are the programs that start a process again as soon as it has ended, by their
// names in proc(5), which have 15 bytes at most: those of OpenRC, runit and s6.
var supervisors = []string{"supervise-daemo", "runsv", "s6-supervise"}

// manager returns how the next daemon is started when the daemon with a process id has ended:
// by the manager that runs it. It returns nil if none does.
func (d daemon) manager(ctx context.Context, pid int) (startNext func(context.Context) error) {
	switch {
	case pid <= 0:
		return nil
	case d.isOfUnit(ctx, pid):
		return func(ctx context.Context) error {
			// The units that need this one do not notice: they keep their connections up.
			return systemctl(ctx, "restart", "--job-mode=ignore-dependencies")
		}
	case slices.Contains(supervisors, nameOf(parentOf(pid))):
		return d.awaitNext
	}
	return nil
}

// isOfUnit reports whether a process is the main one of the unit. A process of the unit
// itself would end with it, and cannot start it again.
func (d daemon) isOfUnit(ctx context.Context, pid int) bool {
	if !booted() {
		return false
	}
	p := show(ctx, "MainPID", "InvocationID")
	return p["MainPID"] == strconv.Itoa(pid) && p["InvocationID"] != d.env.Getenv("INVOCATION_ID")
}

// nameOf returns the name of a process, "" if it is not known.
func nameOf(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// parentOf returns the process id of the parent of a process, 0 if it is not known.
func parentOf(pid int) int {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}

// awaitNext waits until the daemon answers that a supervisor starts. The socket of the one
// before is still there, and has this client until then.
func (d daemon) awaitNext(ctx context.Context) error {
	if _, err := d.ask(ctx); err != nil {
		return fmt.Errorf("the supervisor has started no daemon: %w", err)
	}
	return nil
}

// renewManaged replaces the daemon that a manager runs by one that the manager starts. If it
// starts none, the next daemon runs in the background.
func (d daemon) renewManaged(ctx context.Context, dir *user.Dir, startNext func(context.Context) error) error {
	held, err := ipsecd.Hold(ctx, d.rundir)
	if err != nil {
		return err
	}
	defer held.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	passed := make(chan error, 1)
	go func() { passed <- held.Pass(ctx) }()
	defer func() {
		cancel()
		<-passed
	}()
	if !gone(dir, d.patience.stop) {
		return errors.New("the daemon has handed everything over, but does not end")
	}
	patience, end := context.WithTimeout(ctx, d.patience.start)
	defer end()
	err = startNext(patience)
	if err != nil && !held.Gave() {
		cli.Notef(d.env, "the next daemon is started in the background, not by the service manager: %v", err)
		err = d.launch(dir, "")
	}
	return err
}

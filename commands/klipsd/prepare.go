package klipsd

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/klips/user/memory"
)

// The daemon starts in two steps. As it is started, it does what needs its rights: it
// takes its place in the run directory. Then it gives up its rights and executes itself
// again, with the settings in a file. The process stays the same.

// settings are what the confined daemon gets from the step before it, in place of
// options and the environment.
type settings struct {
	Rundir   string
	Statedir string // empty: no marks are kept
	State    int    // descriptor of that directory; -1: none
	// StateProblem is why it could not be opened.
	StateProblem string
	Debug        bool

	Memory     uint64 // limit of the process in bytes
	Collector  int64  // limit of the garbage collector in bytes (GOMEMLIMIT)
	Processors int    // GOMAXPROCS

	Ready  int   // descriptor to report to that the daemon is ready; -1: none
	Notify int   // descriptor of the service manager's socket; -1: none
	Place  []int // descriptors of the place in the run directory

	Refused confine.Refusals
}

// prepare is the first step. It returns only on an error.
func prepare(ctx context.Context, env *cli.Env, s settings, takeOver bool, recorded func(rundir string) user.Counts) error {
	// The daemon must go on when its terminal closes or its log has no reader any more.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	_ = memory.Spare() // without the right, the kernel may kill the daemon when memory is short
	if err := confine.NoDumps(); err != nil {
		return err
	}
	unix.Umask(0o077)
	if err := background.CloseOnExec(); err != nil {
		return err
	}
	// Before a take-over: without a next daemon, all that the one before has would be lost.
	as, err := confine.Choose([]string{host.TUNPath})
	if err != nil {
		return err
	}
	place, err := daemon.Take(ctx, s.Rundir, takeOver)
	if err != nil {
		return err
	}
	defer place.Close() // after an error; otherwise another program replaces this one
	// Now no other daemon has the marks, which it could no longer write.
	s.State = -1
	if s.Statedir != "" {
		f, err := marks.Give(s.Statedir, as.UID, as.GID)
		if err != nil {
			s.StateProblem = err.Error() // the daemon works without marks
		} else {
			defer f.Close()
			s.State = int(f.Fd())
		}
	}
	if s.Place, err = place.Descriptors(); err != nil {
		return err
	}
	noteLost(env, place.Lost(), s.Rundir, recorded)
	follow(env, s.Rundir)
	s.Notify = -1
	// ipsec setup waits for its daemon by a descriptor; a manager knows nothing of it.
	if s.Ready < 0 {
		if s.Notify, err = dialManager(env.Getenv(notifySocket)); err != nil {
			cli.Notef(env, "the service manager is not notified: %v", err) // packets matter more
		}
	}
	file, err := memfd("settings")
	if err != nil {
		return err
	}
	defer file.Close()
	keep := append([]int{int(file.Fd())}, s.Place...)
	for _, fd := range []int{s.State, s.Ready, s.Notify} {
		if fd >= 0 {
			keep = append(keep, fd)
		}
	}
	argv := []string{"ipsec", "klipsd", "--settings-fd", strconv.Itoa(int(file.Fd()))}
	return confine.Exec(argv, as, keep, func(refused confine.Refusals) error {
		s.Refused = refused
		return json.NewEncoder(file).Encode(s)
	})
}

// noteLost notes what users had made by hand with the daemon before, if that has ended without
// handing it over. Connections of files come back with ipsec up.
func noteLost(env *cli.Env, lost user.Counts, rundir string, recorded func(string) user.Counts) {
	if recorded != nil {
		r := recorded(rundir)
		lost.SAs -= r.SAs
		lost.Eroutes -= r.Eroutes
	}
	if lost.SAs > 0 || lost.Eroutes > 0 {
		cli.Notef(env, "the daemon before has ended with what was made by hand, and it must be made again: SAs: %d, eroutes: %d", max(0, lost.SAs), max(0, lost.Eroutes))
	}
}

// memfd makes a file in memory.
func memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("ipsec "+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// follow starts the process that follows the default route for connections, if there
// are connections that need it: the daemon has no right to set them up again.
func follow(env *cli.Env, rundir string) {
	if !followed.Any(rundir) {
		return
	}
	if err := followed.Start(rundir, followed.Next, os.Stderr); err != nil {
		cli.Notef(env, "the connections that use the default route are not set up again when it changes: %v", err)
	}
}

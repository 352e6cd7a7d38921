package klipsd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/helper"
	"github.com/klips-go/ipsec/klips/user/memory"
)

// The daemon starts in two steps. As it is started, it does what needs its rights: it
// takes its place in the run directory and starts a helper. Then it gives up its rights
// and executes itself again, with the settings in a file. The process stays the same.

// settings are what the confined daemon gets from the step before it, in place of
// options and the environment.
type settings struct {
	Rundir   string
	Statedir string // empty: no marks are kept
	State    int    // descriptor of that directory; -1: it could not be opened
	Debug    bool

	Memory     uint64 // limit of the process in bytes
	Collector  int64  // limit of the garbage collector in bytes (GOMEMLIMIT)
	Processors int    // GOMAXPROCS

	Ready  int   // descriptor to report to that the daemon is ready; -1: none
	Place  []int // descriptors of the place in the run directory
	Helper int   // descriptor of the socket to the helper

	Refused confine.Refusals
}

// prepare is the first step. It returns only on an error.
func prepare(ctx context.Context, env *cli.Env, s settings, takeOver bool) error {
	// The daemon must go on when its terminal closes or nobody reads its log any more.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	_ = memory.Spare() // without the right, the kernel may kill the daemon when memory is short
	if err := confine.NoDumps(); err != nil {
		return err
	}
	unix.Umask(0o077)
	if err := background.CloseOnExec(); err != nil {
		return err
	}
	s.State = -1
	if s.Statedir != "" {
		// On an error the daemon tries it itself, and reports that it keeps no marks.
		if f, err := marks.Give(s.Statedir); err == nil {
			defer f.Close()
			s.State = int(f.Fd())
		}
	}
	place, err := daemon.Take(ctx, s.Rundir, takeOver)
	if err != nil {
		return err
	}
	defer place.Close() // if it comes to that
	if s.Place, err = place.Descriptors(); err != nil {
		return err
	}
	socket, err := startHelper(env, s.Rundir)
	if err != nil {
		return err
	}
	defer socket.Close()
	s.Helper = int(socket.Fd())
	file, err := memfd("settings")
	if err != nil {
		return err
	}
	defer file.Close()
	keep := append([]int{s.Helper, int(file.Fd())}, s.Place...)
	for _, fd := range []int{s.State, s.Ready} {
		if fd >= 0 {
			keep = append(keep, fd)
		}
	}
	argv := []string{"ipsec", "klipsd", "--settings-fd", strconv.Itoa(int(file.Fd()))}
	return confine.Exec(argv, keep, func(refused confine.Refusals) error {
		s.Refused = refused
		return json.NewEncoder(file).Encode(s)
	})
}

// memfd makes a file in memory.
func memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("ipsec "+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// startHelper starts the helper, with the rights and the environment of this process,
// and returns the daemon's end of the socket to it.
func startHelper(env *cli.Env, rundir string) (*os.File, error) {
	own, theirs, err := helper.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", "klipsd", "--helper-fd", "3")
	cmd.Args[0] = "ipsec"
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "IPSEC_STACK=user", "IPSEC_RUNDIR="+rundir)
	cmd.Stdout, cmd.Stderr = env.Err, env.Err
	cmd.ExtraFiles = []*os.File{theirs}
	// It ends with the daemon, and not by a signal from the terminal before it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		own.Close()
		return nil, fmt.Errorf("start the helper: %w", err)
	}
	return own, nil
}

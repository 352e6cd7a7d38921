package klipsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/host"
)

func try(rundir string, args ...string) clitest.Result {
	return clitest.Run(App(nil), clitest.World{Environ: map[string]string{"IPSEC_RUNDIR": rundir}}, args...)
}

// TestRefused: errors are reported before anything is created.
func TestRefused(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	for _, tt := range []struct {
		args, rundir, want string
		status             int
	}{
		{"--ready-fd x", rundir, "--ready-fd x: not a file descriptor above 2", 2},
		{"--ready-fd 2", rundir, "--ready-fd 2: not a file descriptor above 2", 2},
		{"--ready-fd 70000", rundir, "not a file descriptor", 2},
		{"here", rundir, "unexpected argument number 1 (4 characters, not shown", 2},
		{"", "/" + strings.Repeat("x", 100), "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"", "/dev/null", "/dev/null: it is not a directory; set IPSEC_RUNDIR to one", 1},
	} {
		r := try(tt.rundir, strings.Fields(tt.args)...)
		if r.Status != tt.status || !strings.Contains(r.Err, tt.want) {
			t.Errorf("klipsd %s: status %d, %q, want %d, %q", tt.args, r.Status, r.Err, tt.status, tt.want)
		}
	}
	if r := try(rundir, "--help"); r.Status != 0 || !strings.Contains(r.Out, "run the embedded stack's daemon") || strings.Contains(r.Out, "ready-fd") {
		t.Errorf("--help: %v", r)
	}
}

// TestSignals: a daemon ignores hang-up signals from the start.
func TestSignals(t *testing.T) {
	try("/dev/null")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			t.Errorf("%v is not ignored", s)
		}
	}
}

// TestReap: children that ended before the daemon ignores their ends do not stay.
func TestReap(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.list", "^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	reap()
	if err := unix.Kill(cmd.Process.Pid, 0); err != unix.ESRCH {
		t.Errorf("kill = %v, want ESRCH", err)
	}
}

// TestSecond: a second daemon is refused, with advice.
func TestSecond(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, daemon.Config{
			Rundir: rundir, Version: "test", Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
			Host: klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, "eth0"),
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	r := try(rundir)
	if want := rundir + ": a daemon with process id "; r.Status != 1 || !strings.Contains(r.Err, want) || !strings.Contains(r.Err, "ipsec setup stop") {
		t.Errorf("status %d, %q, want %q", r.Status, r.Err, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestExplain: each failure to start has a text with advice.
func TestExplain(t *testing.T) {
	device := func(err error) error { return &klips.OpError{Op: "create device", Object: "ipsec0", Err: err} }
	takeOver := func(err error) error { return &klips.OpError{Op: "take over", Err: err} }
	missing := &host.TUNError{Path: "/dev/net/tun", Why: "it is missing", Err: syscall.ENODEV}
	forbidden := &host.TUNError{Path: "/dev/net/tun", Why: "it may not be opened", Err: syscall.EACCES}
	for _, tt := range []struct {
		err  error
		want []string
	}{
		{device(missing), []string{"create device ipsec0: /dev/net/tun: it is missing; ", "modprobe tun"}},
		{device(forbidden), []string{"/dev/net/tun: it may not be opened; ", "CAP_NET_ADMIN", "container"}},
		{device(syscall.EBUSY), []string{"ipsec0", "does another IPsec stack run here?"}},
		{&user.Running{PID: 4711}, []string{"/run/x: ", "4711", "ipsec setup stop"}},
		{&user.RundirError{Path: "/run/x", Why: "it is a symbolic link", Err: syscall.ELOOP}, []string{"/run/x: it is a symbolic link"}},
		{fmt.Errorf("write: %w", syscall.ENOSPC), []string{"free some room", "/run/x"}},
		{fmt.Errorf("socket: %w", syscall.EPERM), []string{"CAP_NET_RAW", "/run/x"}},
		{takeOver(syscall.EINVAL), []string{"take over: ", "of a version that hands nothing over"}},
		{takeOver(syscall.EPERM), []string{"take over: ", "gives its keys to root only"}},
		{takeOver(syscall.EXDEV), []string{"take over: ", "in another network namespace"}},
		{fmt.Errorf("%w: /proc/self/exe", confine.ErrProgram), []string{"cannot be executed again", "mount /proc"}},
		{errors.New("other"), []string{"other"}},
	} {
		got := explain("/run/x", tt.err)
		if !errors.Is(got, tt.err) || strings.Contains(got.Error(), "\n") {
			t.Errorf("explain(%v) = %v", tt.err, got)
		}
		for _, want := range tt.want {
			if !strings.Contains(got.Error(), want) {
				t.Errorf("explain(%v) = %v, want %q in it", tt.err, got, want)
			}
		}
	}
	if err := explain("/run/x", nil); err != nil {
		t.Errorf("explain(nil) = %v", err)
	}
}

package daemon_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// A Place can be taken by one process step and used by the next, which has only the
// descriptors. A client that connects between the two is answered.
func TestPlace(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	first, err := daemon.Take(t.Context(), rundir, false)
	if err != nil {
		t.Fatal(err)
	}
	var running *user.Running
	if _, err := daemon.Take(t.Context(), rundir, false); !errors.As(err, &running) || running.PID != os.Getpid() {
		t.Errorf("a second Take = %v, want Running", err)
	}
	early, err := klipstest.Dial(user.SocketPath(rundir))
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	fds, err := first.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	place, err := daemon.Adopt(rundir, fds)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, daemon.Config{
			Place: place, Version: "test", Log: slog.New(slog.DiscardHandler),
			Host: klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0"),
		})
	}()
	if s, err := early.Status(t.Context()); err != nil || s.Rundir != rundir {
		t.Errorf("Status = %+v, %v, want run directory %s", s, err, rundir)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if l, err := os.ReadDir(rundir); err != nil || len(l) != 0 {
		t.Errorf("left behind: %v, %v", l, err)
	}
	first.Close()
	again, err := daemon.Take(t.Context(), rundir, false)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// What is no place is refused, and its descriptors are closed.
func TestAdoptRefuses(t *testing.T) {
	if _, err := daemon.Adopt("/none", nil); err == nil {
		t.Error("no descriptors are accepted")
	}
	var fds [4]int
	for i := 0; i < len(fds); i += 2 {
		if err := unix.Pipe2(fds[i:i+2], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := daemon.Adopt("/none", fds[:]); err == nil {
		t.Error("a pipe is accepted as a socket")
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("descriptor %d is left open: %v", fd, err)
		}
	}
}

// A Place knows what the daemon before had, unless that has ended properly: the copies of a
// place are those of a killed daemon.
func TestLost(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	lost := func() user.Counts {
		t.Helper()
		p, err := daemon.Take(t.Context(), rundir, false)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		return p.Lost()
	}
	if got := lost(); got != (user.Counts{}) {
		t.Errorf("in a new run directory: lost %v", got)
	}
	r := runIn(t, rundir, klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0"), nil, false)
	c := dial(t, rundir)
	for i := range 3 {
		id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: klips.SPI(0x113 + i), Proto: klips.ProtoTun}
		if err := c.AddSA(t.Context(), &klips.SASpec{ID: id, Src: local}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DeleteSA(t.Context(), klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x114, Proto: klips.ProtoTun}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(rundir, "klipsd.counts")
	left, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.end()
	r.ended()
	if got := lost(); got != (user.Counts{}) {
		t.Errorf("after a daemon that has ended properly: lost %v", got)
	}
	for text, want := range map[string]user.Counts{
		string(left): {SAs: 2}, "": {}, "x": {}, `{"SAs":-1}`: {}, `{"SAs":"x"}`: {},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lost(); got != want {
			t.Errorf("after a killed daemon that had %q: lost %v, want %v", text, got, want)
		}
	}
}

// A daemon that cannot be taken over changes nothing.
func TestTakeNothing(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	if _, err := daemon.Take(t.Context(), rundir, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Take = %v, want ErrNotExist", err)
	}
	if l, err := os.ReadDir(rundir); err != nil || len(l) != 0 {
		t.Errorf("left behind: %v, %v", l, err)
	}
}

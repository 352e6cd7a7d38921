package daemon_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A running is a daemon in the test's own process.
type running struct {
	t    *testing.T
	c    daemon.Config
	end  context.CancelFunc
	done chan error
}

func runIn(t *testing.T, rundir string, h *klipstest.Host, f daemon.Filter, takeOver bool) *running {
	t.Helper()
	r := &running{t: t, done: make(chan error, 1)}
	ready := make(chan struct{})
	r.c = daemon.Config{
		Rundir: rundir, Version: "test", Host: h, Filter: f, Log: slog.New(slog.DiscardHandler),
		TakeOver: takeOver, Ready: func() { close(ready) },
	}
	var ctx context.Context
	ctx, r.end = context.WithCancel(context.Background())
	go func() { r.done <- daemon.Run(ctx, r.c) }()
	select {
	case <-ready:
	case err := <-r.done:
		t.Fatal(err)
	}
	return r
}

// ended waits until the daemon has ended without an error.
func (r *running) ended() {
	r.t.Helper()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run = %v", err)
	}
}

// renewed replaces a daemon by another one: the next one asks it, or, as under a service
// manager, a third process asks it and holds its state until the next one has started.
func (r *running) renewed(f daemon.Filter, managed bool) (next *running) {
	r.t.Helper()
	h := r.c.Host.(*klipstest.Host)
	if !managed {
		next = runIn(r.t, r.c.Rundir, h, f, true)
		r.ended()
		return next
	}
	held, err := daemon.Hold(r.t.Context(), r.c.Rundir)
	if err != nil {
		r.t.Fatal(err)
	}
	defer held.Close()
	r.ended()
	passed := make(chan error, 1)
	go func() { passed <- held.Pass(r.t.Context()) }()
	if held.Gave() {
		r.t.Error("it has given everything to nobody")
	}
	// A client that asks for something else gets nothing, and takes nothing away.
	c, err := user.Dial(user.HeldPath(r.c.Rundir))
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := c.Status(r.t.Context()); !errors.Is(err, syscall.EINVAL) {
		r.t.Errorf("Status = %v, want EINVAL", err)
	}
	c.Close()
	next = runIn(r.t, r.c.Rundir, h, f, false)
	if err := <-passed; err != nil || !held.Gave() {
		r.t.Errorf("Pass = %v, gave %v", err, held.Gave())
	}
	return next
}

// A daemon that takes over has the whole state of the other one, which ends. A client
// that connects at any moment gets a connection.
func TestTakeOver(t *testing.T) {
	needRoot(t)
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	rundir := filepath.Join(t.TempDir(), "run")
	r := runIn(t, rundir, h, nil, false)
	c := dial(t, rundir)
	id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x113, Proto: klips.ProtoTun}
	for _, err := range []error{
		c.AddSA(t.Context(), &klips.SASpec{ID: id, Src: local}),
		c.Attach(t.Context(), "ipsec0", "eth0"),
		c.DeleteDevice(t.Context(), "ipsec1"),
		c.Set(t.Context(), map[string]int{"tos": 0}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	see := func() (s user.Status, sas []klips.SA) {
		t.Helper()
		c := dial(t, rundir)
		s, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sas, err = c.SAs(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Uptime = 0
		for i := range sas {
			sas[i].Life.AddTime.Count = 0
		}
		return s, sas
	}
	status, sas := see()

	stop, refused := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(refused)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := klipstest.Dial(user.SocketPath(rundir))
			if err != nil {
				refused <- err
				return
			}
			c.Close()
		}
	}()
	for _, managed := range []bool{false, true, true, false} {
		r = r.renewed(nil, managed)
		gotStatus, gotSAs := see()
		equate := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
		if d := cmp.Diff(status, gotStatus, equate); d != "" {
			t.Errorf("status (-before +after):\n%s", d)
		}
		for i := range gotSAs { // these appear only after a handover
			gotSAs[i].AddAgain, gotSAs[i].GroupAgain = false, false
		}
		if d := cmp.Diff(sas, gotSAs, equate); d != "" {
			t.Errorf("SAs (-before +after):\n%s", d)
		}
	}
	close(stop)
	if err := <-refused; err != nil {
		t.Errorf("a connection was refused: %v", err)
	}
	r.end()
	r.ended()
	if _, err := klipstest.Dial(user.SocketPath(rundir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A closedFilter reports an error if it is opened after it has closed a flow.
type closedFilter struct {
	*filter
	t *testing.T
}

func (f *closedFilter) Set(r guard.Rules) error {
	if was, _ := f.Read(); was.Closes() && !r.Closes() {
		f.t.Error("the filter is opened")
	}
	return f.filter.Set(r)
}

// A flow that the packet filter closes stays closed during a takeover.
func TestTakeOverFilter(t *testing.T) {
	needRoot(t)
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	f := &closedFilter{newFilter(guard.Rules{}), t}
	rundir := filepath.Join(t.TempDir(), "run")
	r := runIn(t, rundir, h, f, false)
	c := dial(t, rundir)
	sel := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.9"), SPI: 0x113, Proto: klips.ProtoTun}
	for _, err := range []error{
		c.AddSA(t.Context(), &klips.SASpec{ID: id, Src: local}),
		c.SetEroute(t.Context(), klips.Eroute{Selector: sel, ID: id}, klips.ErouteAdd),
		c.Set(t.Context(), map[string]int{"outbound_clear": 1}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	closed := []string{"out by hand " + sel.String(), "192.0.2.9"}
	f.becomes(t, closed...)
	for _, managed := range []bool{false, true, true, false} {
		r = r.renewed(f, managed)
		f.becomes(t, closed...)
	}
	r.end()
	r.ended()
}

// If the process that holds a daemon's state ends too early, the next daemon starts without
// it, and so does one that finds what a killed process has left.
func TestHeldLost(t *testing.T) {
	needRoot(t)
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	rundir := filepath.Join(t.TempDir(), "run")
	if _, err := daemon.Hold(t.Context(), rundir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Hold without a run directory = %v", err)
	}
	r := runIn(t, rundir, h, nil, false)
	id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x113, Proto: klips.ProtoTun}
	if err := dial(t, rundir).AddSA(t.Context(), &klips.SASpec{ID: id, Src: local}); err != nil {
		t.Fatal(err)
	}
	held, err := daemon.Hold(t.Context(), rundir)
	if err != nil {
		t.Fatal(err)
	}
	r.ended()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := held.Pass(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Pass = %v", err)
	}
	held.Close()
	if _, err := daemon.Hold(t.Context(), rundir); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Hold without a daemon = %v", err)
	}
	dir, err := user.OpenDir(rundir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	ln, err := dir.ListenHeld()
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // the socket stays
	r = runIn(t, rundir, h, nil, false)
	if sas, err := dial(t, rundir).SAs(t.Context()); err != nil || len(sas) != 0 {
		t.Errorf("SAs = %v, %v", sas, err)
	}
	if _, err := os.Lstat(user.HeldPath(rundir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	r.end()
	r.ended()
}

// Without a running daemon a takeover is refused.
func TestTakeOverNothing(t *testing.T) {
	err := daemon.Run(t.Context(), daemon.Config{
		Rundir: filepath.Join(t.TempDir(), "run"), Log: slog.New(slog.DiscardHandler), TakeOver: true,
		Host: klipstest.NewHost(new(klipstest.Network), nil),
	})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Run = %v, want ErrNotExist", err)
	}
}

// needRoot skips a test that only root can do.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Without(t, skip.Root, "keys are handed over to root only")
	}
}

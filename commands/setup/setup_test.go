package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user"
	userdaemon "github.com/klips-go/ipsec/klips/user/daemon"
)

// TestMain is also the program that setup starts: a daemon on a host in memory. The
// variable DAEMON selects its behaviour.
func TestMain(m *testing.M) {
	if len(os.Args) >= 4 && os.Args[1] == "klipsd" && os.Args[2] == "--ready-fd" {
		fd, _ := strconv.Atoi(os.Args[3])
		os.Exit(klipsd(fd, os.Getenv("DAEMON"), len(os.Args) == 5 && os.Args[4] == takeOver))
	}
	os.Exit(m.Run())
}

func klipsd(ready int, how string, takeOver bool) int {
	rundir := os.Getenv("IPSEC_RUNDIR")
	switch how {
	case "words":
		fmt.Fprintln(os.Stderr, "time=now msg=something\nipsec klipsd: no room; make some")
		return 1
	case "silent":
		return 1
	case "late":
		_ = unix.Pause() // a goroutine that waits for ever alone would end the process
	case "deaf", "stubborn": // it has the lock, and no socket
		dir, err := user.OpenDir(rundir)
		if err != nil {
			return 1
		}
		c := make(chan os.Signal, 1)
		if signal.Notify(c, unix.SIGTERM); how == "stubborn" {
			signal.Ignore(unix.SIGTERM)
		}
		if _, err := dir.TakeLock(context.Background()); err != nil {
			return 1
		}
		background.Ready(ready)
		<-c
		return 0 // like a killed daemon, it leaves its file
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	err := userdaemon.Run(ctx, userdaemon.Config{
		Rundir: rundir, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Host:  klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, "eth0"),
		Ready: func() { background.Ready(ready) }, TakeOver: takeOver,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "ipsec klipsd:", err)
		return 1
	}
	return 0
}

// A result holds the output and status of a run of setup.
type result struct {
	status   int
	out, err string
}

// A bench is a run directory of its own. Its processes end with the test.
type bench struct {
	t      *testing.T
	rundir string
	patience
}

func newBench(t *testing.T) *bench {
	t.Helper()
	// A busy machine is slow; only faults take so long.
	b := &bench{t, filepath.Join(t.TempDir(), "run"), patience{start: time.Minute, stop: time.Minute, kill: time.Minute, ask: time.Minute, turn: 5 * time.Minute}}
	t.Cleanup(func() {
		if pid := b.holder(); pid != 0 {
			b.end(pid)
		}
	})
	return b
}

// holder returns the process id of the daemon; 0: none.
func (b *bench) holder() int {
	dir, err := user.OpenDir(b.rundir)
	if err != nil {
		return 0
	}
	defer dir.Close()
	pid, _ := dir.Holder()
	return pid
}

// end kills a process with signal 9 and waits until it has ended. Then it has no lock.
func (b *bench) end(pid int) {
	b.t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		b.t.Fatal(err)
	}
	b.await(fd, fmt.Sprintf("process %d ends", pid))
}

// await waits for a descriptor to become readable.
func (b *bench) await(fd int, what string) {
	b.t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(time.Minute.Milliseconds())) // only faults take so long
		switch {
		case n > 0:
			return
		case err != unix.EINTR:
			b.t.Fatalf("not within a minute: %s: %v", what, err)
		}
	}
}

// run carries out one action.
func (b *bench) run(action func(daemon, context.Context) error) result {
	var out, errs bytes.Buffer
	env := &cli.Env{Name: "ipsec setup", Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	err := action(daemon{env, b.rundir, "", b.patience}, context.Background())
	text, status := cli.Message(env.Name, err)
	return result{status, out.String(), errs.String() + text}
}

// must carries out one action, which must succeed.
func (b *bench) must(action func(daemon, context.Context) error) result {
	b.t.Helper()
	r := b.run(action)
	if r.status != 0 {
		b.t.Fatalf("status %d: %s", r.status, r.err)
	}
	return r
}

// TestStatusWaits: a daemon that is ending still has its devices, so status waits until
// it is gone and then lists what it has left.
func TestStatusWaits(t *testing.T) {
	b := newBench(t)
	if err := os.Mkdir(b.rundir, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := user.OpenDir(b.rundir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	lock, err := dir.TakeLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.patience.stop = 0
	if r := b.run(status); r.status != 1 || !strings.Contains(r.err, "has "+b.rundir+" and does not answer; end it with: ipsec setup stop") {
		t.Errorf("while it has the directory: status %d, %q%q", r.status, r.out, r.err)
	}
	b.patience.stop = time.Minute
	looks := b.looks()
	done := make(chan result, 1)
	go func() { done <- b.run(status) }()
	looks()
	looks() // it has looked again, so it waits
	select {
	case r := <-done:
		t.Fatalf("status does not wait: %d, %q%q", r.status, r.out, r.err)
	default:
	}
	dir.RemoveFiles(false)
	lock.Close()
	if r := <-done; r.status != 3 || !strings.HasPrefix(r.out, "IPsec stopped") {
		t.Errorf("when it has gone: status %d, %q%q", r.status, r.out, r.err)
	}
}

// looks returns a function that waits until the holder of the run directory has been
// read once more.
func (b *bench) looks() (next func()) {
	b.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err == nil {
		b.t.Cleanup(func() { unix.Close(fd) })
		_, err = unix.InotifyAddWatch(fd, filepath.Join(b.rundir, lockFile), unix.IN_CLOSE_NOWRITE)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return func() {
		b.t.Helper()
		b.await(fd, "the holder is read")
		if _, err := unix.Read(fd, make([]byte, 4096)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// lockFile is the file of the run directory with the process id of the holder.
const lockFile = "klipsd.pid"

func status(d daemon, ctx context.Context) error { return d.status(ctx, false) }

func TestLifecycle(t *testing.T) {
	b := newBench(t)
	for name, f := range map[string]func(daemon, context.Context) error{"stop": daemon.stop, "condrestart": errOf(daemon.condrestart)} {
		if r := b.must(f); !strings.Contains(r.err, "note: no daemon runs in "+b.rundir) {
			t.Errorf("%s of nothing: %q", name, r.err)
		}
	}
	if r := b.run(status); r.status != 3 || !strings.HasPrefix(r.out, "IPsec stopped (stack user, "+b.rundir) {
		t.Errorf("status %d, %q", r.status, r.out)
	}
	if _, err := os.Lstat(b.rundir); err == nil {
		t.Error("the run directory was made although nothing started")
	}
	if r := b.must(errOf(daemon.start)); r.out+r.err != "" {
		t.Errorf("start prints %q and %q", r.out, r.err)
	}
	first := b.holder()
	if r := b.must(errOf(daemon.start)); !strings.Contains(r.err, fmt.Sprintf("running already, pid %d", first)) {
		t.Errorf("a second start prints %q", r.err)
	}
	if r := b.must(errOf(daemon.reload)); r.out+r.err != "" || b.holder() != first {
		t.Errorf("reload prints %q, and pid %d became %d", r.out+r.err, first, b.holder())
	}
	r := b.must(status)
	want := fmt.Sprintf(`^IPsec running - pid: %d
stack user test in %s, up \d+s
0 SAs, 0 eroutes
sequence marks are not kept: no state directory \(IPSEC_STATEDIR\)
ipsec0 not attached
ipsec1 not attached
(\w+=\w+\n)+$`, first, regexp.QuoteMeta(b.rundir))
	if !regexp.MustCompile(want).MatchString(r.out) {
		t.Errorf("status prints\n%swant\n%s", r.out, want)
	}
	var l output.SetupList
	r = b.must(func(d daemon, ctx context.Context) error { return d.status(ctx, true) })
	if err := json.Unmarshal([]byte(r.out), &l); err != nil || l.Stack != "user" || len(l.Status) != 1 || !l.Status[0].Running || l.Status[0].PID != first {
		t.Errorf("status --json prints %s: %v", r.out, err)
	}
	for name, f := range map[string]func(daemon, context.Context) error{"restart": errOf(daemon.restart), "condrestart": errOf(daemon.condrestart)} {
		before := b.holder()
		if b.must(f); b.holder() == before || b.holder() == 0 {
			t.Errorf("%s: pid %d became %d", name, before, b.holder())
		}
	}
	b.must(daemon.stop)
	if l, _ := os.ReadDir(b.rundir); len(l) != 0 {
		t.Errorf("stop leaves %v", l)
	}
	// Both start a daemon if none runs.
	b.must(errOf(daemon.reload))
	b.must(daemon.stop)
	b.must(errOf(daemon.restart))
	if b.holder() == 0 {
		t.Error("restart of nothing starts nothing")
	}
}

// TestAtOnce: concurrent calls have the same result as calls one after the other.
func TestAtOnce(t *testing.T) {
	b := newBench(t)
	all := func(actions ...func(daemon, context.Context) error) {
		t.Helper()
		var wg sync.WaitGroup
		for i, f := range actions {
			wg.Go(func() {
				if r := b.run(f); r.status != 0 {
					t.Errorf("action %d: status %d, %s", i, r.status, r.err)
				}
			})
		}
		wg.Wait()
	}
	for range 3 {
		all(errOf(daemon.start), errOf(daemon.start), errOf(daemon.start), errOf(daemon.start), errOf(daemon.start), errOf(daemon.start))
		pid := b.holder()
		if r := b.run(status); r.status != 0 || !strings.Contains(r.out, fmt.Sprintf("pid: %d\n", pid)) {
			t.Errorf("after six starts: %v", r)
		}
		all(errOf(daemon.restart), errOf(daemon.reload), errOf(daemon.restart), errOf(daemon.condrestart))
		if r := b.run(status); r.status != 0 {
			t.Errorf("after restarts: %v", r)
		}
		all(daemon.stop, errOf(daemon.start), daemon.stop, errOf(daemon.restart), daemon.stop)
		if r := b.run(status); (b.holder() == 0) != (r.status == 3) {
			t.Errorf("after starts and stops: pid %d and %v", b.holder(), r)
		}
		all(daemon.stop, daemon.stop, daemon.stop)
		if l, _ := os.ReadDir(b.rundir); len(l) != 0 || b.holder() != 0 {
			t.Errorf("after stops: %v", l)
		}
	}
}

// TestNotStarted: the error has the reason why a daemon did not start, and nothing of
// the daemon is left.
func TestNotStarted(t *testing.T) {
	for _, tt := range []struct{ how, want string }{
		{"words", `^ipsec setup: no room; make some$`},
		{"silent", `^ipsec setup: the daemon ended at once \(exit status 1\); see .*/klipsd.log$`},
		{"late", `^ipsec setup: the daemon was not ready within 1ms; see .*/klipsd.log$`},
	} {
		b := newBench(t)
		t.Setenv("DAEMON", tt.how)
		if tt.how == "late" {
			b.start = time.Millisecond
		}
		if r := b.run(errOf(daemon.start)); r.status != 1 || !regexp.MustCompile(tt.want).MatchString(r.err) {
			t.Errorf("%s: status %d, %q, want %q", tt.how, r.status, r.err, tt.want)
		}
		if pid := b.holder(); pid != 0 {
			t.Errorf("%s: process %d runs", tt.how, pid)
		}
	}
}

// TestStopOfTheDeaf: a daemon that accepts no requests gets a signal, and is killed if
// that does not help.
func TestStopOfTheDeaf(t *testing.T) {
	for _, tt := range []struct {
		how  string
		note bool
	}{{"deaf", false}, {"stubborn", true}} {
		b := newBench(t)
		t.Setenv("DAEMON", tt.how)
		b.must(errOf(daemon.start))
		if tt.note {
			b.stop = 100 * time.Millisecond
		}
		if r := b.must(daemon.stop); strings.Contains(r.err, "killing it") != tt.note {
			t.Errorf("%s: stop prints %q", tt.how, r.err)
		}
		if l, _ := os.ReadDir(b.rundir); len(l) != 0 || b.holder() != 0 {
			t.Errorf("%s: stop leaves %v", tt.how, l)
		}
	}
}

// TestStartBesideTheDeaf: if another daemon has the lock and does not answer, start
// waits, and then its error names that daemon.
func TestStartBesideTheDeaf(t *testing.T) {
	b := newBench(t)
	t.Setenv("DAEMON", "deaf")
	b.must(errOf(daemon.start))
	b.start = time.Millisecond
	want := fmt.Sprintf("a daemon, pid %d, has %s and does not answer; end it with: ipsec setup stop", b.holder(), b.rundir)
	if r := b.run(errOf(daemon.start)); r.status != 1 || !strings.Contains(r.err, want) {
		t.Errorf("status %d, %q, want %q", r.status, r.err, want)
	}
}

// TestTurn: if another call holds the lock for too long, the error reports it.
func TestTurn(t *testing.T) {
	b := newBench(t)
	dir, err := user.LockDir(t.Context(), b.rundir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	b.turn = time.Millisecond
	for name, f := range map[string]func(daemon, context.Context) error{
		"start": errOf(daemon.start), "stop": daemon.stop, "restart": errOf(daemon.restart), "condrestart": errOf(daemon.condrestart),
	} {
		if r := b.run(f); r.status != 1 || !strings.Contains(r.err, "another ipsec setup has been at work there") {
			t.Errorf("%s: status %d, %q", name, r.status, r.err)
		}
	}
}

// TestAfterKill: the files of a killed daemon do not count as a daemon.
func TestAfterKill(t *testing.T) {
	b := newBench(t)
	b.must(errOf(daemon.start))
	pid := b.holder()
	b.end(pid)
	if r := b.run(status); r.status != 3 {
		t.Errorf("status %d, %q", r.status, r.out)
	}
	b.must(errOf(daemon.start))
	if now := b.holder(); now == 0 || now == pid {
		t.Errorf("pid %d became %d", pid, now)
	}
	b.end(b.holder())
	b.must(daemon.stop)
	if l, _ := os.ReadDir(b.rundir); len(l) != 0 {
		t.Errorf("stop leaves %v", l)
	}
}

func TestSet(t *testing.T) {
	b := newBench(t)
	set := func(words ...string) result {
		return b.run(func(d daemon, ctx context.Context) error { return d.set(ctx, words) })
	}
	if r := set("tos=0"); r.status != 1 || !strings.Contains(r.err, "no daemon runs in "+b.rundir+"; start one with: ipsec setup start") {
		t.Errorf("without a daemon: %v", r)
	}
	b.must(errOf(daemon.start))
	if r := set("tos=0", "icmp=0"); r.status != 0 || r.out+r.err != "" {
		t.Errorf("set: %v", r)
	}
	if r := set("tos=1", "nosuch=1"); r.status != 1 || !strings.Contains(r.err, "no such knob") {
		t.Errorf("set of one that is not there: %v", r)
	}
	if r := b.must(status); !strings.Contains(r.out, "\ntos=0\n") || !strings.Contains(r.out, "\nicmp=0\n") {
		t.Errorf("status prints %s", r.out)
	}
}

func TestParseKnobs(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "a knob is missing"},
		{"tos", "write KNOB=0 or KNOB=1"},
		{"tos=", "write KNOB=0 or KNOB=1"},
		{"tos=2", "write KNOB=0 or KNOB=1"},
		{"ike_bypass=1", "write ike_bypass=peers or ike_bypass=klips"},
		{"natt_keepalive=3601", "write natt_keepalive=SECONDS, from 0 (none) to 3600"},
		{"natt_keepalive=-1", "write natt_keepalive=SECONDS"},
		{"natt_keepalive=", "write natt_keepalive=SECONDS"},
		{"ike_bypass", "write ike_bypass=peers or ike_bypass=klips"},
		{"tos=1 icmp=0 tos=1", "tos: it was given twice"},
	} {
		var usage *cli.UsageError
		if _, err := parseKnobs(strings.Fields(tt.in)); !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("parseKnobs(%q) = %v, want %q", tt.in, err, tt.want)
		}
	}
	got, err := parseKnobs([]string{"tos=1", "icmp=0", "ike_bypass=klips", "natt_keepalive=3600"})
	if want := map[string]int{"tos": 1, "icmp": 0, "ike_bypass": 1, "natt_keepalive": 3600}; err != nil || !maps.Equal(got, want) {
		t.Errorf("parseKnobs = %v, %v, want %v", got, err, want)
	}
	var text strings.Builder
	writeKnobs(&text, []klips.Knob{{Name: "ike_bypass", Value: 0}, {Name: "ike_bypass", Value: 1}, {Name: "tos", Value: 1}, {Name: "tos", Value: 7}, {Name: "natt_keepalive", Value: 20}})
	if want := "ike_bypass=peers\nike_bypass=klips\ntos=1\ntos=7\nnatt_keepalive=20\n"; text.String() != want {
		t.Errorf("writeKnobs = %q, want %q", text.String(), want)
	}
}

func TestSilent(t *testing.T) {
	for err, want := range map[error]bool{
		fs.ErrNotExist: true, syscall.ECONNREFUSED: true, syscall.EPIPE: true, syscall.ESHUTDOWN: true,
		fs.ErrPermission: false, context.DeadlineExceeded: false,
		&user.RundirError{Err: syscall.ENAMETOOLONG}: false, &user.RundirError{Err: fs.ErrPermission}: false,
	} {
		if got := silent(fmt.Errorf("dial: %w", err)); got != want {
			t.Errorf("silent(%v) = %v, want %v", err, got, want)
		}
	}
}

func TestLastLine(t *testing.T) {
	for _, tt := range []struct {
		log  string
		from int64
		want string
	}{
		{"", 0, ""},
		{"one\ntwo\n", 0, "two"},
		{"old\nipsec klipsd: no TUN; load it\n", 4, "no TUN; load it"},
		{"old words\n", 10, ""},
		{"panic: x\n\ngoroutine 1\n", 0, "goroutine 1"},
	} {
		if got := lastLine(strings.NewReader(tt.log), tt.from); got != tt.want {
			t.Errorf("lastLine(%q, %d) = %q, want %q", tt.log, tt.from, got, tt.want)
		}
	}
}

// errOf returns a function without the result fresh.
func errOf[T any](f func(T, context.Context) (bool, error)) func(T, context.Context) error {
	return func(s T, ctx context.Context) error {
		_, err := f(s, ctx)
		return err
	}
}

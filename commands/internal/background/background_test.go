package background_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
)

// patience is the limit for expected events. Only a failure takes so long.
const patience = time.Minute

// A report holds what a process in the background finds.
type report struct {
	Files  map[int]string // open file descriptors and their targets
	Dir    string
	TTY    string // number of the controlling terminal
	Leader bool   // of a session of its own
	HUP    bool   // SIGHUP is ignored
	Args   []string
	Env    map[string]string
}

// TestMain is also the process in the background: the first argument selects what it
// does.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] != "" && os.Args[2] == "--ready-fd" {
		fd, _ := strconv.Atoi(os.Args[3])
		switch os.Args[1] {
		case "report":
			writeReport(fd)
			background.Ready(fd)
		case "end":
			os.Exit(7)
		case "close":
			unix.Close(fd)
			os.Exit(0)
		case "wait":
			_ = unix.Pause() // a goroutine that waits for ever alone would end the process
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func writeReport(ready int) {
	r := report{Files: map[int]string{}, Args: os.Args, Env: map[string]string{}}
	r.HUP = signal.Ignored(syscall.SIGHUP)
	r.Dir, _ = os.Getwd()
	sid, _ := unix.Getsid(0)
	r.Leader = sid == os.Getpid()
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		_, rest, _ := strings.Cut(string(b), ") ")
		r.TTY = strings.Fields(rest)[4]
	}
	// Only descriptors that this process was started with: stop at the first that it
	// has opened.
	for fd := range 400 {
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if flags, ferr := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && ferr == nil && flags&unix.FD_CLOEXEC == 0 {
			r.Files[fd] = target
		}
	}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		r.Env[name] = value
	}
	b, _ := json.Marshal(r)
	_ = os.WriteFile(os.Getenv("REPORT"), b, 0o600)
}

// start runs a reporting process and returns its report.
func start(t *testing.T, args ...string) report {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report")
	t.Setenv("REPORT", file)
	cmd, err := background.Command("report", args...)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := background.Start(cmd, patience)
	if err != nil || pid <= 0 {
		t.Fatalf("Start = %d, %v", pid, err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// leak opens descriptors that a new program inherits, like those of a shell.
func leak(t *testing.T, file string, fds ...int) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, fd := range fds {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}
}

// TestKeepsNothing: a process in the background inherits nothing from its caller.
func TestKeepsNothing(t *testing.T) {
	before := signal.Ignored(syscall.SIGHUP) // as under nohup
	leak(t, filepath.Join(t.TempDir(), "lock"), 60, 61, 222, 399)
	r := start(t, "--more", "x")
	want := map[int]string{0: os.DevNull, 1: os.DevNull, 2: os.DevNull, 3: r.Files[3]}
	if !maps.Equal(r.Files, want) || !strings.HasPrefix(r.Files[3], "pipe:") {
		t.Errorf("its files are %v, want /dev/null three times and a pipe", r.Files)
	}
	if r.Dir != "/" || r.TTY != "0" || !r.Leader {
		t.Errorf("it is in %s, with terminal %s, leader of a session: %v; want /, 0, true", r.Dir, r.TTY, r.Leader)
	}
	if got, want := strings.Join(r.Args, " "), "ipsec report --ready-fd 3 --more x"; got != want {
		t.Errorf("its arguments are %q, want %q", got, want)
	}
	if !r.HUP {
		t.Error("it does not ignore SIGHUP")
	}
	if after := signal.Ignored(syscall.SIGHUP); after != before {
		t.Errorf("the caller ignores SIGHUP afterwards: %v, want %v as before", after, before)
	}
}

// TestHangupIgnoredBefore: a signal that the caller ignores stays ignored.
func TestHangupIgnoredBefore(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGHUP)
		signal.Stop(c)
	}()
	if r := start(t); !r.HUP {
		t.Error("it does not ignore SIGHUP")
	}
	if !signal.Ignored(syscall.SIGHUP) {
		t.Error("the caller does not ignore SIGHUP any more")
	}
}

// TestOutputs: the process has the outputs that it is given, and no others.
func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	leak(t, filepath.Join(dir, "lock"), 60)
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	t.Setenv("REPORT", filepath.Join(dir, "report"))
	cmd, err := background.Command("report")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = out
	if _, err := background.Start(cmd, patience); err != nil {
		t.Fatal(err)
	}
	var r report
	b, err := os.ReadFile(filepath.Join(dir, "report"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || r.Files[1] != out.Name() || r.Files[2] != os.DevNull || r.Files[60] != "" {
		t.Errorf("its files are %v, %v", r.Files, err)
	}
}

// TestPathsOfEnvironment: paths in the environment are relative to the directory of the
// caller.
func TestPathsOfEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("IPSEC_RUNDIR", "run")
	t.Setenv("IPSEC_PFKEY_SOCKET", "./a/../sock")
	t.Setenv("IPSEC_PROC_NET", "/abs")
	t.Setenv("IPSEC_STACK", "user")
	r := start(t)
	for name, want := range map[string]string{
		"IPSEC_RUNDIR": dir + "/run", "IPSEC_PFKEY_SOCKET": dir + "/sock", "IPSEC_PROC_NET": "/abs", "IPSEC_STACK": "user",
	} {
		if got := r.Env[name]; got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	t.Setenv("IPSEC_RUNDIR", "")
	if r := start(t); r.Env["IPSEC_RUNDIR"] != "" {
		t.Errorf("an empty IPSEC_RUNDIR became %s", r.Env["IPSEC_RUNDIR"])
	}
}

func TestNotReady(t *testing.T) {
	for _, tt := range []struct {
		applet string
		code   int
	}{{"end", 7}, {"close", 0}} {
		cmd, err := background.Command(tt.applet)
		if err != nil {
			t.Fatal(err)
		}
		var ended *background.EndedError
		if _, err := background.Start(cmd, patience); !errors.As(err, &ended) || ended.State.ExitCode() != tt.code {
			t.Errorf("Start of %s = %v, want the end with status %d", tt.applet, err, tt.code)
		}
	}
	cmd, err := background.Command("wait")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := background.Start(cmd, time.Millisecond); err != background.ErrLate {
		t.Errorf("Start = %v, want %v", err, background.ErrLate)
	}
	if cmd.ProcessState == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the late one ended with %v, want SIGKILL", cmd.ProcessState)
	}
	fresh, _ := background.Command("wait")
	fresh.Path = "/nonexistent"
	if _, err := background.Start(fresh, patience); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start of no program = %v", err)
	}
}

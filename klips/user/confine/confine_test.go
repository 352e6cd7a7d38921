package confine

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/owner"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A report is what a confined process has found about itself.
type report struct {
	Refused Refusals
	Rights  Rights
	Env     []string
	Errors  map[string]string // of the attempts; "" means that one succeeded
}

// The words that select what TestMain does. The environment of the second program is
// empty, so they are arguments.
const (
	wordExec  = "confine-exec"
	wordEnter = "confine-enter"
)

// TestMain is also the two programs that the tests confine: the first calls Exec, which
// starts the second.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == wordExec:
		fd := func(f *os.File, err error) int {
			if err != nil {
				panic(err)
			}
			return int(f.Fd())
		}
		refused := fd(os.CreateTemp(os.Args[2], "refused"))
		u, err := Choose(nil)
		if err != nil {
			panic(err)
		}
		err = Exec([]string{"confined", wordEnter, os.Args[2], strconv.Itoa(refused)}, u, []int{refused}, func(r Refusals) error {
			b, _ := json.Marshal(r)
			_, err := unix.Write(refused, b)
			return err
		})
		panic(err)
	case len(os.Args) == 4 && os.Args[1] == wordEnter:
		attempt(os.Args[2], os.Args[3])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// attempt enters the confinement, tries what must fail and what must not, and prints a
// report.
func attempt(dir, fd string) {
	r := report{Env: os.Environ(), Errors: map[string]string{}}
	n, _ := strconv.Atoi(fd)
	b := make([]byte, 4096)
	size, _ := unix.Pread(n, b, 0)
	_ = json.Unmarshal(b[:size], &r.Refused)
	r.Refused = append(r.Refused, Enter(Files{Read: []string{"/proc"}, Write: []string{dir, "/no/such/directory"}, Use: []string{"/dev/null"}})...)
	r.Rights, _ = Read(r.Refused)
	for what, f := range map[string]func() error{
		"write in the directory": func() error { return os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600) },
		"read /proc":             func() error { _, err := os.ReadFile("/proc/self/status"); return err },
		"use /dev/null":          func() error { return os.WriteFile("/dev/null", []byte("x"), 0) },
		"start a thread": func() error {
			done := make(chan struct{})
			for range 20 {
				go func() { unix.Nanosleep(&unix.Timespec{Nsec: 1000}, nil); done <- struct{}{} }()
			}
			for range 20 {
				<-done
			}
			return nil
		},
		"a raw socket":    func() error { return socket(unix.SOCK_RAW, unix.IPPROTO_ESP) },
		"read /etc":       func() error { _, err := os.ReadFile("/etc/hostname"); return err },
		"write /tmp":      func() error { return os.WriteFile(filepath.Join(dir, "../outside"), nil, 0o600) },
		"start a program": func() error { return exec.Command("/proc/self/exe").Start() },
		"exec":            func() error { return syscall.Exec("/proc/self/exe", []string{"x"}, nil) },
		"fork": func() error {
			pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
			if errno == 0 && pid == 0 {
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return errnoError(errno)
		},
		"unshare": func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		"ptrace":  func() error { return syscall.PtraceAttach(os.Getppid()) },
		"bpf": func() error {
			_, _, errno := unix.Syscall(unix.SYS_BPF, 0, 0, 0)
			return errnoError(errno)
		},
	} {
		r.Errors[what] = ""
		if err := f(); err != nil {
			r.Errors[what] = err.Error()
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

func socket(kind, proto int) error {
	fd, err := unix.Socket(unix.AF_INET, kind, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// confined runs the two programs and returns the report.
func confined(t *testing.T) report {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if uid, gid, ok := owner.IDs(); ok && os.Geteuid() == 0 {
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			if err := os.Chown(d, int(uid), int(gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command("/proc/self/exe", wordExec, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return r
}

// A confined process can do its work, and nothing else.
func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Without(t, skip.Root, "there are rights to give up")
	}
	r := confined(t)
	if len(r.Env) > 0 {
		t.Errorf("environment %q", r.Env)
	}
	if diff := cmp.Diff([]string{"net_admin", "net_raw"}, r.Rights.Capabilities); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	for _, right := range []Right{RightPrivileges, RightDumps, RightSwap, RightFiles, RightCalls} {
		refused := slices.ContainsFunc(r.Refused, func(f Refusal) bool { return f.Right == right })
		if given := slices.Contains(r.Rights.Without, right); given == refused {
			t.Errorf("%s: given up: %v, refused: %v", right, given, refused)
		}
	}
	for _, f := range r.Refused {
		t.Logf("refused: %s: %s", f.Right, f.Why)
	}
	refused := func(right Right) bool { return !slices.Contains(r.Rights.Without, right) }
	for what, err := range r.Errors {
		var right Right
		switch what {
		case "read /etc", "write /tmp":
			right = RightFiles
		case "start a program", "exec", "fork", "unshare", "ptrace", "bpf":
			right = RightCalls
		}
		switch {
		case right == "" && err != "":
			t.Errorf("%s: %s, want no error", what, err)
		case right != "" && refused(right):
			t.Logf("%s was not tried", what)
		case right != "" && err == "":
			t.Errorf("%s succeeds", what)
		}
	}
}

// The rights in /proc/PID/status are recognised.
func TestParse(t *testing.T) {
	for _, tt := range []struct {
		status string
		want   Rights
	}{
		{"", Rights{}},
		{"Uid:\nCapPrm:\nVmLck:\n", Rights{}},
		{"Uid:\t1\t2\t3\t4\nCapPrm:\t0000000000003000\nVmLck:\t      12 kB\nNoNewPrivs:\t1\nSeccomp:\t2\n",
			Rights{UID: 2, Capabilities: []string{"net_admin", "net_raw"}, Without: []Right{RightSwap, RightPrivileges, RightCalls}}},
		{"Uid:\t0\t0\t0\t0\nCapPrm:\t8000000000000001\nVmLck:\t0 kB\nNoNewPrivs:\t0\nSeccomp:\t1\n",
			Rights{Capabilities: []string{"chown", "63"}}},
		{"CapPrm:\t0000000000000000\n", Rights{Capabilities: []string{}}},
	} {
		if diff := cmp.Diff(tt.want, parse([]byte(tt.status))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.status, diff)
		}
	}
}

// A program that the daemon's user may not execute is not executed as that user.
func TestExecutable(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		t.Fatal(err)
	}
	if err := executable(st.Uid, st.Gid); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "program")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(file, b, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "-test.run", "^TestExecutableByOthers$", "-test.v")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "may not execute") {
		t.Errorf("%v: %s", err, out)
	}
}

// The mode of a file is that for its owner, its group, or others.
func TestBits(t *testing.T) {
	st := unix.Stat_t{Mode: unix.S_IFCHR | 0o641, Uid: 1, Gid: 2}
	for _, tt := range []struct{ uid, gid, want uint32 }{{1, 2, 6}, {1, 3, 6}, {3, 2, 4}, {3, 3, 1}} {
		if got := bits(&st, tt.uid, tt.gid); got != tt.want {
			t.Errorf("user %d, group %d: %o, want %o", tt.uid, tt.gid, got, tt.want)
		}
	}
}

// TestExecutableByOthers is run by TestExecutable with a program that others may not
// execute.
func TestExecutableByOthers(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		t.Fatal(err)
	}
	err := executable(st.Uid+1, st.Gid+1)
	if others := st.Mode&1 != 0; others != (err == nil) {
		t.Errorf("mode %04o: %v", st.Mode, err)
	}
	t.Log(err)
}

package manpages_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ipsec": func() { os.Exit(commands.Main(os.Args)) },
	})
}

// TestExamples runs the examples of the pages, each set between its own hosts.
//
// These commands are added to those of testscript:
//
//	host NAME                        the next commands run on this host
//	cable HOST DEV ADDR HOST DEV ADDR
//	umask MODE
//	like stdout FILE                 cmp, without the parts that differ in each run
//	await PROG ARG...                repeat PROG until it succeeds
func TestExamples(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Without(t, skip.Root, "namespaces and raw sockets need root")
	}
	if err := lab.CanTUN(); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	skip.WithoutProgram(t, skip.IP)
	skip.WithoutProgram(t, skip.Ping)
	testscript.Run(t, testscript.Params{
		Dir:   "examples",
		Setup: func(env *testscript.Env) error { env.Values[hostsKey{}] = newHosts(env); return nil },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"host":  cmdHost,
			"cable": cmdCable,
			"umask": cmdUmask,
			"like":  cmdLike,
			"await": cmdAwait,
		},
		UpdateScripts: os.Getenv("UPDATE") != "",
	})
}

// hosts are the hosts of one script. A script runs on one goroutine. The first command
// "host" locks it to a thread, which then moves between the namespaces. The programs
// that it starts inherit its namespace.
type hosts struct {
	byName map[string]*lab.Host
	locked bool
}

type hostsKey struct{}

func newHosts(env *testscript.Env) *hosts {
	hs := &hosts{byName: make(map[string]*lab.Host)}
	env.Defer(func() {
		for name, h := range hs.byName {
			// Stop the daemon that the script has left, because a process outlives its
			// namespace's host.
			stop := exec.Command(filepath.Join(binDir(env), "ipsec"), "setup", "stop")
			stop.Env = append(env.Vars, "IPSEC_RUNDIR="+runDir(env.WorkDir, name))
			if out, err := h.Output(stop); err != nil {
				fmt.Fprintf(os.Stderr, "%s: setup stop: %v\n%s", name, err, out)
			}
			h.Close()
		}
	})
	return hs
}

// binDir returns the directory in which testscript puts the programs that it makes from
// this binary.
func binDir(env *testscript.Env) string {
	return filepath.SplitList(env.Getenv("PATH"))[0]
}

func runDir(work, host string) string { return filepath.Join(work, host+".run") }

// get returns a host, and creates it if it does not exist.
func (hs *hosts) get(ts *testscript.TestScript, name string) *lab.Host {
	h := hs.byName[name]
	if h == nil {
		var err error
		h, err = lab.NewHost(name)
		ts.Check(err)
		hs.byName[name] = h
	}
	return h
}

func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: host NAME")
	}
	hs := ts.Value(hostsKey{}).(*hosts)
	h := hs.get(ts, args[0])
	if !hs.locked {
		// Never unlocked: the thread ends with the goroutine of the script.
		runtime.LockOSThread()
		hs.locked = true
	}
	ns, err := os.Open(h.NetNS())
	ts.Check(err)
	defer ns.Close()
	ts.Check(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
	ts.Setenv("IPSEC_RUNDIR", runDir(ts.Getenv("WORK"), args[0]))
}

func cmdCable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 6 {
		ts.Fatalf("usage: cable HOST DEV ADDR HOST DEV ADDR")
	}
	hs := ts.Value(hostsKey{}).(*hosts)
	a, b := hs.get(ts, args[0]), hs.get(ts, args[3])
	ts.Check(lab.Cable(a, args[1], b, args[4]))
	ts.Check(a.AddAddr(args[1], netip.MustParsePrefix(args[2])))
	ts.Check(b.AddAddr(args[4], netip.MustParsePrefix(args[5])))
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: await PROG ARG...")
	}
	if err := lab.Await(func() bool { return ts.Exec(args[0], args[1:]...) == nil }); err != nil {
		ts.Fatalf("await %s: %v", strings.Join(args, " "), err)
	}
}

func cmdUmask(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: umask MODE")
	}
	mode, err := strconv.ParseUint(args[0], 8, 9)
	ts.Check(err)
	unix.Umask(int(mode))
}

// varying are the parts of a listing that differ between runs, with the text that
// replaces them for a comparison.
var varying = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}Z `), "TIME "},
	{regexp.MustCompile(`\blast     \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "last     TIME"},
	{regexp.MustCompile(`\biv=0x[0-9a-f]+`), "iv=IV"},
	{regexp.MustCompile(`\b(addtime|usetime)\(\d+`), "$1(N"},
	{regexp.MustCompile(`\bidle=\d+`), "idle=N"},
	{regexp.MustCompile(`(?m)^\S+ (Mon|Tue|Wed|Thu|Fri|Sat|Sun) .* \d{4}$`), "HOST DATE"},
	{regexp.MustCompile(`(?m)^\S+ \d\d:\d\d:\d\d stack`), "HOST TIME stack"},
	{regexp.MustCompile(`(?m)^0x[0-9a-f_]+$`), "BITS"},
	{regexp.MustCompile(`\bpid: \d+`), "pid: N"},
	{regexp.MustCompile(`\bpid=\d+`), "pid=N"},
	{regexp.MustCompile(`"pid": \d+`), `"pid": N`},
	{regexp.MustCompile(`\bstack user \S+ in \S+, up \S+`), "stack user VERSION in RUNDIR, up TIME"},
	{regexp.MustCompile(`(?m)^(stack user: )?ipsec (version: )?\S+$`), "${1}ipsec ${2}VERSION"},
	{regexp.MustCompile(`(?m)^(the daemon has user )\S+(, .*; given up: ).*$`), "${1}USER${2}RIGHTS"},
	{regexp.MustCompile(`(?m)^not given up: .*\n`), ""},
	{regexp.MustCompile(`(?m)^fe80::.*\n`), ""},
	{regexp.MustCompile(`(?m) +$`), ""},
}

func cmdLike(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: like stdout FILE")
	}
	got, want := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if d := cmp.Diff(strings.Split(alike(want), "\n"), strings.Split(alike(got), "\n")); d != "" {
		ts.Fatalf("%s is not like %s (-want +got):\n%s\nall of it:\n%s", args[0], args[1], d, got)
	}
}

func alike(s string) string {
	for _, v := range varying {
		s = v.re.ReplaceAllString(s, v.to)
	}
	return s
}

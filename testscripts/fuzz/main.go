// Fuzz runs every fuzz target of the module for a while, one after another, and
// stops at the first that fails. "make fuzz FUZZTIME=1m" runs it.
//
// Go runs one target at a time (go help testflag, -fuzz); this program finds
// them. What a target finds is written to testdata/fuzz of its package, from
// where go test runs it ever after.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	var r runner
	flag.StringVar(&r.time, "time", "10s", "how long each target runs: a time, or a number of inputs as in 1000x")
	only := flag.String("run", "", "only the targets whose package and name, as in klips/pfkey.FuzzParse, this regular expression matches")
	flag.IntVar(&r.parallel, "parallel", 0, "how many inputs are tried at the same time; 0: as many as there are processors")
	flag.StringVar(&r.goTool, "go", "go", "the go command")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "usage: fuzz [options] [package ...]\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	if r.only, err = regexp.Compile(*only); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = r.run(ctx, os.Stdout, flag.Args())
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// A runner runs targets.
type runner struct {
	time     string // as -fuzztime
	only     *regexp.Regexp
	parallel int
	goTool   string
	dir      string // of the module; empty: here
}

func (r *runner) run(ctx context.Context, out io.Writer, packages []string) error {
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	list, err := r.command(ctx, append([]string{"test", "-list", "^Fuzz"}, packages...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("list the targets: %w\n%s", err, list)
	}
	n := 0
	for _, t := range targets(string(list)) {
		if !r.only.MatchString(t.String()) {
			continue
		}
		n++
		if err := r.fuzz(ctx, out, t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	if n == 0 {
		return errors.New("there is no such target")
	}
	_, err = fmt.Fprintf(out, "nothing found by %d targets\n", n)
	return err
}

// A target is a fuzz test.
type target struct{ pkg, name string }

func (t target) String() string { return t.pkg + "." + t.name }

// targets reads what go test -list prints: the names of each package's tests, and
// then its result, "ok", tab, and the package.
func targets(list string) (l []target) {
	var names []string
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Fuzz") {
			names = append(names, line)
			continue
		}
		if f := strings.Fields(line); len(f) > 1 && f[0] == "ok" {
			for _, n := range names {
				l = append(l, target{f[1], n})
			}
		}
		names = nil
	}
	return l
}

// grace is how long a target may take besides its time: to be built, to run what
// was found earlier, and to end.
const grace = 10 * time.Minute

// fuzz runs a target and prints a line about it; of one that fails, all that it
// has printed.
func (r *runner) fuzz(ctx context.Context, out io.Writer, t target) error {
	if d, err := time.ParseDuration(r.time); err == nil {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, d+grace)
		defer cancel()
	}
	// An input that reaches something new is made smaller for up to a minute,
	// in which nothing new is tried; 1x leaves it as it is.
	args := []string{"test", t.pkg, "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", r.time, "-fuzzminimizetime", "1x"}
	if r.parallel > 0 {
		args = append(args, "-parallel", strconv.Itoa(r.parallel))
	}
	b, err := r.command(ctx, args...).CombinedOutput()
	if err != nil {
		_, _ = out.Write(b)
		return errors.Join(err, ctx.Err())
	}
	_, err = fmt.Fprintf(out, "%-72v %s inputs\n", t, executions(b))
	return err
}

var progress = regexp.MustCompile(`(?m)^fuzz: .*execs: ([0-9]+)`)

// executions is how many inputs go test has tried, by its last word on that.
func executions(output []byte) []byte {
	m := progress.FindAllSubmatch(output, -1)
	if len(m) == 0 {
		return []byte("0")
	}
	return m[len(m)-1][1]
}

// command is a run of go, which ends with all its children when ctx does.
func (r *runner) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, r.goTool, args...)
	c.Dir = r.dir
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

// Fuzz runs every fuzz target of the module for a while, one after another, and
// stops at the first that fails. "make fuzz FUZZTIME=1m" runs it.
//
// Go runs one target at a time (go help testflag, -fuzz); this program finds the
// targets. An input that fails is written to testdata/fuzz of the package. From then on
// go test runs it.
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
	time     string // as in -fuzztime
	only     *regexp.Regexp
	parallel int
	goTool   string
	dir      string // of the module; empty: the working directory
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

// targets parses the output of go test -list: the names of the tests of each package,
// and then the result of the package: "ok", a tab, and its name.
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

// grace is how much longer than its time a target may take: to be built, to run earlier
// inputs, and to end.
const grace = 10 * time.Minute

// fuzz runs a target and prints a line about it. If the target fails, it prints the
// whole output.
func (r *runner) fuzz(ctx context.Context, out io.Writer, t target) error {
	if d, err := time.ParseDuration(r.time); err == nil {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, d+grace)
		defer cancel()
	}
	// Go would minimise each new interesting input for up to a minute, and try nothing
	// else meanwhile; 1x turns this off.
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

// executions returns the number of inputs in the last report of go test.
func executions(output []byte) []byte {
	m := progress.FindAllSubmatch(output, -1)
	if len(m) == 0 {
		return []byte("0")
	}
	return m[len(m)-1][1]
}

// command returns a go command, which ends with all its children when ctx ends.
func (r *runner) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, r.goTool, args...)
	c.Dir = r.dir
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// warmup is how long streams last before they are measured.
const warmup = time.Second

// A flow is n TCP streams from one host to the other.
type flow struct {
	n, from int
	addrs   [2]string // of the hosts
}

// A transfer is what was measured of flows at the same time.
type transfer struct {
	bytes int64
	spent time.Duration
	cpu   time.Duration // of the daemons
}

// bitrate returns the bits per second.
func (t transfer) bitrate() float64 {
	if t.spent == 0 {
		return 0
	}
	return float64(t.bytes) * 8 / t.spent.Seconds()
}

// tcp measures flows for the time window.
func (r *rig) tcp(w *way, window time.Duration, flows ...flow) (t transfer, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, warmup+window+30*time.Second)
	defer cancel()
	var receivers, senders []*generator
	defer func() {
		for _, g := range append(receivers, senders...) {
			err = errors.Join(err, g.end(err != nil))
		}
	}()
	for _, f := range flows {
		in, err := r.generate(ctx, w.hosts[1-f.from], "tcp-receive", f.addrs[1-f.from], strconv.Itoa(f.n), decimal(warmup), decimal(window))
		if err != nil {
			return t, err
		}
		receivers = append(receivers, in)
		addr, err := in.line()
		if err != nil {
			return t, err
		}
		out, err := r.generate(ctx, w.hosts[f.from], "tcp-send", addr, strconv.Itoa(f.n))
		if err != nil {
			return t, err
		}
		senders = append(senders, out)
	}
	for _, in := range receivers {
		if _, err := in.line(); err != nil { // it is warm
			return t, err
		}
	}
	before, err := w.cpu()
	if err != nil {
		return t, err
	}
	for _, in := range receivers {
		text, err := in.line()
		if err != nil {
			return t, err
		}
		var bytes int64
		var spent time.Duration
		if _, err := fmt.Sscan(text, &bytes, (*int64)(&spent)); err != nil {
			return t, fmt.Errorf("result %q: %w", text, err)
		}
		t.bytes, t.spent = t.bytes+bytes, max(t.spent, spent)
	}
	after, err := w.cpu()
	t.cpu = after - before
	if err == nil && t.bytes == 0 {
		err = errors.New("no byte has passed")
	}
	return t, err
}

func decimal(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// cpu returns the processor time that the daemons have used.
func (w *way) cpu() (sum time.Duration, err error) {
	for _, pid := range w.daemons {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		t, err := statTime(string(b))
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// statTime returns the processor time, user's and system's, in the text of /proc/PID/stat
// (proc_pid_stat(5)). The name of the program in it may contain any character.
func statTime(stat string) (time.Duration, error) {
	const hertz = 100 // USER_HZ, the same on all machines that Go supports
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0, errors.New("the statistics of a process are too short")
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / hertz, errors.Join(err, err2)
}

// A generator is the program traffic at work.
type generator struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors strings.Builder
}

// generate starts the program traffic on a host.
func (r *rig) generate(ctx context.Context, h *lab.Host, args ...string) (*generator, error) {
	g := &generator{cmd: exec.CommandContext(ctx, r.traffic, args...)}
	g.cmd.Stderr = &g.errors
	in, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.in, g.out = in, bufio.NewReader(out)
	return g, h.Start(g.cmd)
}

// line reads one line of the output.
func (g *generator) line() (string, error) {
	text, err := g.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("traffic %s: %w", g.cmd.Args[1], errors.Join(io.ErrUnexpectedEOF, g.cmd.Wait(), errors.New(g.errors.String())))
	}
	return strings.TrimSpace(text), nil
}

// end waits for the end of the program; kill ends it.
func (g *generator) end(kill bool) error {
	if kill {
		_ = g.cmd.Process.Kill()
	}
	g.in.Close()
	if err := g.cmd.Wait(); err != nil && !kill {
		return fmt.Errorf("traffic %s: %w %s", g.cmd.Args[1], err, g.errors.String())
	}
	return nil
}

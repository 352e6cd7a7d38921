// Bench measures the embedded stack: packets between two hosts beside other ways through
// the same kind of cable, first of all wireguard-go; look-ups, SAs, listings, and the start
// of a command. "make bench" runs it, as root.
//
// Compare figures only with each other. All ways are measured in turn within each round,
// and the ratios to wireguard-go are the medians of those within the rounds, because the
// speed of a machine with other work changes from minute to minute.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/testscripts/lab"
)

func init() { runtime.LockOSThread() }

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	err = lab.Enter()
	if err == nil {
		// The signals stay caught until the end, so that a second ^C does not keep run from
		// removing what it has made.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		if err = run(ctx, o); ctx.Err() != nil {
			err = errors.New("interrupted")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures the parts, and writes the figures even if a later part fails.
func run(ctx context.Context, o *options) (err error) {
	r := result{Machine: cpuName(), CPUs: runtime.NumCPU(), Go: runtime.Version(), Linux: release()}
	fmt.Printf("%s, %d CPUs, %s, Linux %s\n", r.Machine, r.CPUs, r.Go, r.Linux)
	defer func() {
		if r.Figures = measured; o.json != "" && ctx.Err() == nil {
			err = errors.Join(err, r.write(o.json))
		}
	}()
	for _, p := range []struct {
		name string
		run  func() error
	}{
		{"packets", func() (err error) {
			r.Packets, err = packets(ctx, o)
			printTable(os.Stdout, r.Packets)
			return err
		}},
		{"tables", tables},
		{"listing", func() error { return listing(o.ipsec) }},
		{"start", func() error { return start(o.ipsec) }},
	} {
		if ctx.Err() == nil && slices.Contains(o.parts, p.name) {
			if err := p.run(); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

func release() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// printRow prints a line about the embedded stack alone.
func printRow(what, format string, args ...any) {
	fmt.Printf("%-54s %s\n", what, fmt.Sprintf(format, args...))
}

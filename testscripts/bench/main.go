// Bench measures the embedded stack and prints a table: throughput between two network
// namespaces, look-ups, SAs, listings, and the start of a command. "make bench" runs it, as root.
// Compare figures only with each other: the time of a packet through a group stands
// beside that of a packet in clear, measured on the same machine at the same time.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/klips-go/ipsec/testscripts/lab"
)

func init() { runtime.LockOSThread() }

func main() {
	ipsec := flag.String("ipsec", "bin/ipsec", "the program to measure")
	d := flag.Duration("time", 3*time.Second, "how long each throughput run lasts")
	rounds := flag.Int("rounds", 3, "how often each is repeated; medians are printed")
	only := flag.String("only", "", "a part: packets, tables, listing, start")
	file := flag.String("json", "", "also write the figures of tables, listing and start to this file")
	flag.Parse()
	err := run(*ipsec, *d, *rounds, *only)
	if err == nil && *file != "" {
		err = writeJSON(*file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ipsec string, d time.Duration, rounds int, only string) error {
	if err := lab.Enter(); err != nil {
		return err
	}
	fmt.Printf("%s, %d CPUs, %s, Linux %s\n", cpuName(), runtime.NumCPU(), runtime.Version(), release())
	for _, p := range []struct {
		name string
		run  func() error
	}{
		{"packets", func() error { return packets(ipsec, d, rounds) }},
		{"tables", tables},
		{"listing", func() error { return listing(ipsec) }},
		{"start", func() error { return start(ipsec) }},
	} {
		if only == "" || only == p.name {
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

// row prints one line of the table.
func row(what, format string, args ...any) {
	fmt.Printf("%-54s %s\n", what, fmt.Sprintf(format, args...))
}

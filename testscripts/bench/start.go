package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// startRuns is how often each program is started.
const startRuns = 200

// start compares the run times of commands: spigrp, which parses a group and then finds
// no daemon, "ip -V", which prints a line, and a Go program that does nothing.
func start(ipsec string) error {
	ipsec, err := filepath.Abs(ipsec)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ipsec-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bare := filepath.Join(dir, "bare")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", bare, "./testscripts/bench/bare").CombinedOutput(); err != nil {
		return fmt.Errorf("build of an empty program: %w\n%s", err, out)
	}
	cmds := []struct {
		name string
		argv []string
	}{
		{"ipsec spigrp", []string{ipsec, "spigrp", "--said", "tun.113@10.0.0.1", "esp.115@10.0.0.1", "ah.116@10.0.0.1"}},
		{"an empty Go program", []string{bare}},
	}
	if ip, err := exec.LookPath("ip"); err == nil {
		cmds = append(cmds, struct {
			name string
			argv []string
		}{"ip -V", []string{ip, "-V"}})
	}
	times := make([][]time.Duration, len(cmds))
	for range startRuns {
		for i, c := range cmds {
			cmd := exec.Command(c.argv[0], c.argv[1:]...)
			cmd.Env = []string{"IPSEC_RUNDIR=/nonexistent", "PATH=/usr/bin:/bin"}
			begin := time.Now()
			_ = cmd.Run() // it fails, because there is no daemon
			times[i] = append(times[i], time.Since(begin))
		}
	}
	middle := func(i int) time.Duration {
		slices.Sort(times[i])
		return times[i][startRuns/2]
	}
	ours := middle(0)
	text := fmt.Sprintf("%.2f ms", ours.Seconds()*1e3)
	for i, c := range cmds[1:] {
		ratio := float64(ours) / float64(middle(i+1))
		text += fmt.Sprintf(", %.2f of %s", ratio, c.name)
		note("start of ipsec spigrp in those of "+c.name, ratio, "")
	}
	printRow("start of ipsec spigrp", "%s", text)
	note("start of ipsec spigrp", ours.Seconds()*1e3, "ms")
	return nil
}

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// startRuns is how often each program is started, in turn.
const startRuns = 200

// start compares how long commands take from start to end: spigrp, which parses
// a group and then finds no daemon, and "ip -V", which prints a line.
func start(ipsec string) error {
	ipsec, err := filepath.Abs(ipsec)
	if err != nil {
		return err
	}
	ours := []string{ipsec, "spigrp", "--said", "tun.113@10.0.0.1", "esp.115@10.0.0.1", "ah.116@10.0.0.1"}
	cmds := [][]string{ours}
	if ip, err := exec.LookPath("ip"); err == nil {
		cmds = append(cmds, []string{ip, "-V"})
	}
	times := make([][]time.Duration, len(cmds))
	for range startRuns {
		for i, argv := range cmds {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env = []string{"IPSEC_RUNDIR=/nonexistent", "PATH=/usr/bin:/bin"}
			begin := time.Now()
			_ = cmd.Run() // that there is no daemon is part of it
			times[i] = append(times[i], time.Since(begin))
		}
	}
	mid := make([]time.Duration, len(cmds))
	for i := range times {
		slices.Sort(times[i])
		mid[i] = times[i][startRuns/2]
	}
	text := fmt.Sprintf("%.2f ms", mid[0].Seconds()*1e3)
	if len(mid) > 1 {
		text += fmt.Sprintf(", %.2f of ip -V", float64(mid[0])/float64(mid[1]))
	}
	row("start of ipsec spigrp", "%s", text)
	return nil
}

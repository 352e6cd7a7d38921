package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// kernelDrops returns how many packets the kernels of both hosts have dropped because
// queues of devices or buffers of sockets were full. On a busy machine they fill up;
// these losses are not losses of the stack.
func kernelDrops(b *bed.Bed) (n uint64, err error) {
	for _, h := range b.Hosts {
		d, err := dropsOf(h)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", h.Name, err)
		}
		n += d
	}
	return n, nil
}

func dropsOf(h *lab.Host) (n uint64, err error) {
	text := map[string]string{}
	err = h.Do(func() error {
		for _, file := range []string{"dev", "snmp", "raw", "raw6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			text[file] = string(b)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	add := func(field string) {
		if v, e := strconv.ParseUint(field, 10, 64); e == nil {
			n += v
		} else {
			err = e
		}
	}
	for line := range strings.Lines(text["dev"]) {
		if _, values, ok := strings.Cut(line, ":"); ok {
			f := strings.Fields(values) // 8 numbers for received packets, then 8 for sent ones
			if len(f) < 12 {
				return 0, fmt.Errorf("/proc/net/dev: %q", line)
			}
			add(f[3])
			add(f[11])
		}
	}
	var names []string
	for line := range strings.Lines(text["snmp"]) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			if name == "RcvbufErrors" && i < len(f) {
				add(f[i])
			}
		}
	}
	for _, file := range []string{"raw", "raw6"} {
		for line := range strings.Lines(text[file]) {
			if f := strings.Fields(line); len(f) > 0 && strings.HasSuffix(f[0], ":") {
				add(f[len(f)-1])
			}
		}
	}
	return n, err
}

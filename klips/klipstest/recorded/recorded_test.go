package recorded_test

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

// TestCommands: the recordings are complete and undamaged. The reader refuses unknown
// fields.
func TestCommands(t *testing.T) {
	type count struct{ all, sent, crashed, faults int }
	got := map[recorded.Generation]count{}
	ids := map[string]bool{}
	var see []string
	for c := range recorded.Commands(t) {
		if ids[c.ID] {
			t.Errorf("%s is there twice", c.ID)
		}
		ids[c.ID] = true
		see = append(see, c.See...)
		n := got[c.Impl]
		n.all++
		n.sent += len(c.Messages) + len(c.Ioctls)
		if c.Signal != 0 {
			n.crashed++
			if c.Exit != 128+c.Signal {
				t.Errorf("%s: status %d with signal %d", c.ID, c.Exit, c.Signal)
			}
		}
		if c.Fault != nil {
			n.faults++
			if c.Exit == 0 || !c.Complained && c.Tool != "klipsdebug" {
				t.Errorf("%s: fault %+v with status %d", c.ID, c.Fault, c.Exit)
			}
		}
		got[c.Impl] = n
		for i, m := range c.Messages {
			if len(m) < 16 || len(m) != 8*int(binary.LittleEndian.Uint16(m[4:])) {
				t.Errorf("%s: message %d is %x", c.ID, i, m)
			}
			if seq, pid := binary.LittleEndian.Uint32(m[8:]), binary.LittleEndian.Uint32(m[12:]); int(seq) != i+1 || pid != 4242 {
				t.Errorf("%s: message %d has sequence number %d and process ID %d", c.ID, i, seq, pid)
			}
		}
		for _, u := range c.UnstableBytes {
			if u[0] >= len(c.Messages) || u[1] >= len(c.Messages[u[0]]) {
				t.Errorf("%s: unstable byte %v of %d messages", c.ID, u, len(c.Messages))
			}
		}
		for _, i := range c.Ioctls {
			if len(i.Name) != 16 || len(i.Data) != 24 || binary.LittleEndian.Uint32(i.Data) != i.Request {
				t.Errorf("%s: ioctl %+v", c.ID, i)
			}
		}
	}
	want := map[recorded.Generation]count{
		recorded.Libreswan332: {4238, 1815, 190, 1109},
		recorded.Libreswan311: {632, 113, 0, 301},
		recorded.Openswan300:  {4238, 2128, 0, 914},
	}
	for impl, w := range want {
		if got[impl] != w {
			t.Errorf("%s: %+v, want %+v", impl, got[impl], w)
		}
	}
	for _, id := range see {
		if !ids[id] {
			t.Errorf("there is no %s", id)
		}
	}
}

func TestSequences(t *testing.T) {
	n, steps, lines := 0, 0, map[string]int{}
	for q := range recorded.Sequences(t) {
		n++
		steps += len(q.Steps)
		for _, s := range q.Steps {
			for name, l := range s.Tables {
				lines[name] += len(l)
			}
		}
	}
	if n != 273 || steps != 3438 {
		t.Errorf("%d sequences with %d steps, want 273 with 3438", n, steps)
	}
	want := map[string]int{"spi": 3959, "spigrp": 4577, "eroute": 2735, "tncfg": 234, "klipsdebug": 531}
	if !maps.Equal(lines, want) {
		t.Errorf("lines of tables: %v, want %v", lines, want)
	}
}

func TestExchanges(t *testing.T) {
	n, listening := 0, 0
	var packets [2]int
	for x := range recorded.Exchanges(t) {
		n++
		if x.Listens() {
			listening++
		}
		if x.ID != x.Config+"."+x.Direction {
			t.Errorf("%s is of %s %s", x.ID, x.Config, x.Direction)
		}
		for i, e := range x.Events {
			for j, list := range [][]recorded.Bytes{e.Clear, e.Wire} {
				packets[j] += len(list)
				for _, p := range list {
					if len(p) < 20 || p[0]>>4 != 4 {
						t.Errorf("%s: event %d has the packet %x", x.ID, i, p)
					}
				}
			}
		}
	}
	if n != 158 || listening != 18 || packets != [2]int{2144, 2484} {
		t.Errorf("%d exchanges, %d of them with a listener, %v packets", n, listening, packets)
	}
}

// TestProcNet: each set exists, and a command line that printed a table had it.
func TestProcNet(t *testing.T) {
	dir := recorded.ProcNet(t)
	for c := range recorded.Commands(t) {
		if _, err := os.Stat(filepath.Join(dir, c.Set())); err != nil {
			t.Errorf("%s: %v", c.ID, err)
		}
		if !c.Printed.Table {
			continue
		}
		if b, err := os.ReadFile(c.Table(dir)); err != nil || len(b) == 0 {
			t.Errorf("%s: table %q, %v", c.ID, b, err)
		}
	}
	if l, err := os.ReadDir(filepath.Join(dir, "none")); err != nil || len(l) != 0 {
		t.Errorf("the set none is %v, %v", l, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "full", "ipsec_spi"))
	if err != nil || !strings.HasPrefix(string(b), "tun0x12a@192.168.43.1 IPIP: ") {
		t.Errorf("full/ipsec_spi is %q, %v", b, err)
	}
}

func TestOption(t *testing.T) {
	c := recorded.Command{Args: []string{"--src", "1", "--dst=2", "--src", "3", "--said"}}
	for name, want := range map[string]string{"--src": "3", "--dst": "2", "--said": "", "--spi": ""} {
		if got := c.Option(name); got != want {
			t.Errorf("Option(%s) = %q, want %q", name, got, want)
		}
	}
}

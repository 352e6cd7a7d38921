package manual

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	module "github.com/klips-go/ipsec/klips/kernel"
	"github.com/klips-go/ipsec/klips/klipstest"
)

// onKLIPS is the applet on a machine that has KLIPS: how to run it, and what is
// then in the tables.
func onKLIPS(t *testing.T, text string) (run func(line string) clitest.Result, tables func() []string) {
	k := klipstest.NewKernel(t, netip.MustParseAddr("10.0.0.1"))
	b := newBench(t, "config setup\n interfaces=ipsec0=eth0\n"+text)
	run = func(line string) clitest.Result {
		w := clitest.World{Wrap: func(klips.Stack) klips.Stack {
			return module.New(k.Machine())
		}}
		return clitest.Run(app(left, &b.table), w, append([]string{"--config", b.file}, strings.Fields(line)...)...)
	}
	tables = func() (lines []string) {
		for _, name := range []string{"ipsec_spigrp", "ipsec_eroute"} {
			text, err := os.ReadFile(filepath.Join(k.ProcNet, name))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
		}
		slices.Sort(lines)
		return lines
	}
	return run, tables
}

// TestKLIPS takes a connection up and down.
func TestKLIPS(t *testing.T) {
	run, tables := onKLIPS(t, tunnel)
	up := []string{
		"0 10.1.0.0/16 -> 10.2.0.0/16 => tun0x200@10.0.0.2",
		"esp0x202@10.0.0.2",
		"esp0x203@10.0.0.1 tun0x201@10.0.0.1",
		"tun0x200@10.0.0.2 esp0x202@10.0.0.2",
		"tun0x201@10.0.0.1",
	}
	for _, step := range []struct {
		line string
		want []string
	}{
		{"--up t", up}, {"--down t", nil}, {"--up t", up},
	} {
		if r := run(step.line); r.Status != 0 || r.Err != "" {
			t.Fatalf("%s: status %d, %s", step.line, r.Status, r.Err)
		}
		if d := cmp.Diff(step.want, tables()); d != "" {
			t.Errorf("after %s (-want +got):\n%s", step.line, d)
		}
	}
	if r := run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "it is up already") {
		t.Errorf("a second --up: status %d, %s", r.Status, r.Err)
	}
	if d := cmp.Diff(up, tables()); d != "" {
		t.Errorf("after a second --up (-want +got):\n%s", d)
	}
}

// TestKLIPSOthers: KLIPS' tables tell the objects of two connections apart.
func TestKLIPSOthers(t *testing.T) {
	run, tables := onKLIPS(t, several)
	if r := run("--up one"); r.Status != 0 || r.Err != "" {
		t.Fatalf("--up one: status %d, %s", r.Status, r.Err)
	}
	want := tables()
	for _, tt := range []struct{ line, err string }{
		{"--up two", "there is tun0x300@10.0.0.1 already, and its source is 10.0.0.2, not 10.0.0.3 (it can be of conn one)"},
		{"--down two", "there is tun0x300@10.0.0.1, but its source is 10.0.0.2, not 10.0.0.3 (it can be of conn one)"},
		{"--up flow", "it leads to tun0x300@10.0.0.2 (it can be of conn one)"},
		{"--down flow", "it leads to tun0x300@10.0.0.2 (it can be of conn one)"},
		{"--up twin", "the eroute 10.1.0.0/16 -> 10.2.0.0/16 leads to it (it can be of conn one)"},
		{"--down twin", "the eroute 10.1.0.0/16 -> 10.2.0.0/16 leads to it (it can be of conn one)"},
		{"--down sink", "it leads to tun0x300@10.0.0.2 (it can be of conn one)"},
		{"--unroute side", "needs the route 10.2.0.0/16 dev ipsec0"},
	} {
		r := run(tt.line)
		if r.Status != 1 || !strings.Contains(r.Err, tt.err) {
			t.Errorf("%s: status %d, %s, want %s", tt.line, r.Status, r.Err, tt.err)
		}
		if d := cmp.Diff(want, tables()); d != "" {
			t.Errorf("after %s (-want +got):\n%s", tt.line, d)
		}
	}
	if r := run("--down one"); r.Status != 0 || r.Err != "" || len(tables()) != 0 {
		t.Errorf("--down one: status %d, %s%q", r.Status, r.Err, tables())
	}
}

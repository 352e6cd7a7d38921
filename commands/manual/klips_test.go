package manual

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/serial"
)

// onKLIPS sets up the applet on a machine with KLIPS. run runs it, tables returns the
// tables.
func onKLIPS(t *testing.T, text string) (run func(line string) clitest.Result, tables func() []string) {
	return onKLIPSAs(t, text, func(s *classic.Stack) serial.Doer { return s })
}

// onKLIPSAs is onKLIPS with another view of the stack.
func onKLIPSAs(t *testing.T, text string, as func(*classic.Stack) serial.Doer) (run func(line string) clitest.Result, tables func() []string) {
	k := classictest.NewKernel(t, netip.MustParseAddr("10.0.0.1"))
	b := newBench(t, "config setup\n interfaces=ipsec0=eth0\n"+text)
	run = func(line string) clitest.Result {
		w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack {
			return serial.New(as(classic.New(k.Machine())))
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

// TestKLIPS brings a connection up and down.
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

// TestKLIPSOthers: the tables of KLIPS are enough to distinguish the objects of two
// connections.
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

// A spoiled is a KLIPS with some lines that cannot be read.
type spoiled struct {
	*classic.Stack
	lines []klips.UnreadLine
	freed bool // the last member of the group of tun0x200@10.0.0.2
}

func (s *spoiled) SAs(ctx context.Context) ([]klips.SA, error) {
	sas, err := s.Stack.SAs(ctx)
	for i := range sas {
		if s.freed && sas[i].ID.String() == "tun0x200@10.0.0.2" {
			sas[i].Next = append(sas[i].Next, klips.SAID{})
		}
	}
	return sas, err
}

func (s *spoiled) Unread(context.Context, ...string) ([]klips.UnreadLine, error) { return s.lines, nil }

// TestKLIPSUnread: a line that cannot be read only affects the connections that it
// names.
func TestKLIPSUnread(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		table      string
		up, down   string // messages of the commands; empty: no message
		left       []string
	}{
		{"an eroute of others", "0          [049:9::600]0:0:0/72 ->                    => %drop:6", "ipsec_eroute", "", "", nil},
		{"no SA", "\x1b[2J", "ipsec_spi", "", "", nil},
		{"an SA of others", "tun0x20@10.0.0.2 IPIP", "ipsec_spi", "", "", nil},
		{"the SA", "tun0x200@10.0.0.2 IPIP", "ipsec_spi",
			"not brought up: there is tun0x200@10.0.0.2 already, and line 3 of ipsec_spi, which names it, cannot be read; use another SPI",
			"tun0x200@10.0.0.2 stays: line 3 of ipsec_spi, which names it, cannot be read",
			[]string{"esp0x202@10.0.0.2", "tun0x200@10.0.0.2 esp0x202@10.0.0.2"}},
		{"the group", "tun0x900@10.0.0.2 esp0x202@10.0.0.2 x", "ipsec_spigrp",
			"not brought up: there is esp0x202@10.0.0.2 already, and line 3 of ipsec_spigrp, which names it, cannot be read; use another SPI",
			"tun0x200@10.0.0.2 stays: it is grouped with esp0x202@10.0.0.2: line 3 of ipsec_spigrp, which names it, cannot be read",
			[]string{"esp0x202@10.0.0.2", "tun0x200@10.0.0.2 esp0x202@10.0.0.2"}},
		{"an eroute to the SA", "x 10.7.0.0/16 -> 10.8.0.0/16 => tun0x200@10.0.0.2:6", "ipsec_eroute",
			"line 3 of ipsec_eroute, which names it, cannot be read",
			"tun0x200@10.0.0.2 stays: line 3 of ipsec_eroute, which names it, cannot be read",
			[]string{"esp0x202@10.0.0.2", "tun0x200@10.0.0.2 esp0x202@10.0.0.2"}},
		{"the eroute", "0          10.1.0.0/16        -> 10.2.0.0/16        => ?", "ipsec_eroute",
			"there is the eroute 10.1.0.0/16 -> 10.2.0.0/16 already, and line 3 of ipsec_eroute, which names it, cannot be read; these packets have one eroute only",
			"the eroute 10.1.0.0/16 -> 10.2.0.0/16 stays: line 3 of ipsec_eroute, which names it, cannot be read",
			[]string{"0 10.1.0.0/16 -> 10.2.0.0/16 => tun0x200@10.0.0.2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var lines []klips.UnreadLine
			run, tables := onKLIPSAs(t, tunnel, func(s *classic.Stack) serial.Doer { return &spoiled{s, lines, false} })
			odd := []klips.UnreadLine{{Table: tt.table, Number: 3, Text: tt.line, Reason: "cut short"}}
			lines = odd
			if r := run("--up t"); (r.Status != 0) != (tt.up != "") || !strings.Contains(r.Err, tt.up) {
				t.Errorf("--up: status %d, %s, want %q", r.Status, r.Err, tt.up)
			}
			if tt.up != "" {
				if got := tables(); got != nil {
					t.Errorf("a refused --up has made %q", got)
				}
				lines = nil
				if r := run("--up t"); r.Status != 0 {
					t.Fatal(r.Err)
				}
				lines = odd
			}
			r := run("--down t")
			if r.Status != 0 || tt.down == "" && r.Err != "" || !strings.Contains(r.Err, tt.down) {
				t.Errorf("--down: status %d, %s, want %q", r.Status, r.Err, tt.down)
			}
			if d := cmp.Diff(tt.left, tables()); d != "" {
				t.Errorf("after --down (-want +got):\n%s", d)
			}
		})
	}
}

// TestKLIPSFreed: an SA that is linked to freed memory is kept, and no more packets
// reach it.
func TestKLIPSFreed(t *testing.T) {
	freed := false
	run, tables := onKLIPSAs(t, tunnel, func(s *classic.Stack) serial.Doer { return &spoiled{s, nil, freed} })
	if r := run("--up t"); r.Status != 0 {
		t.Fatal(r.Err)
	}
	freed = true
	if r := run("--down t"); r.Status != 0 || !strings.Contains(r.Err, "tun0x200@10.0.0.2 stays: it is linked to an SA that KLIPS has freed") {
		t.Errorf("--down: status %d, %s", r.Status, r.Err)
	}
	for _, line := range tables() {
		if strings.Contains(line, "=>") {
			t.Errorf("after --down there is the eroute %s", line)
		}
	}
	if r := run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "it is linked to an SA that KLIPS has freed") {
		t.Errorf("--up: status %d, %s", r.Status, r.Err)
	}
}

// TestKLIPSUnroute: an eroute that cannot be read may need the route.
func TestKLIPSUnroute(t *testing.T) {
	var lines []klips.UnreadLine
	run, _ := onKLIPSAs(t, tunnel, func(s *classic.Stack) serial.Doer { return &spoiled{s, lines, false} })
	for _, tt := range []struct{ table, want string }{
		{"ipsec_spi", ""},
		{"ipsec_eroute", "conn t: line 2 of ipsec_eroute cannot be read; if its packets need this route, they leave in clear where another one takes them\n"},
	} {
		if r := run("--route t"); r.Status != 0 {
			t.Fatal(r.Err)
		}
		lines = []klips.UnreadLine{{Table: tt.table, Number: 2, Text: "?", Reason: "cut short"}}
		if r := run("--unroute t"); r.Status != 0 || tt.want == "" && r.Err != "" || !strings.Contains(r.Err, tt.want) {
			t.Errorf("--unroute with an unread line of %s: status %d, %q, want %q", tt.table, r.Status, r.Err, tt.want)
		}
		// The route is already gone, so this changes nothing.
		if r := run("--unroute t"); r.Status != 0 || strings.Contains(r.Err, "cannot be read") {
			t.Errorf("a second --unroute: status %d, %q", r.Status, r.Err)
		}
	}
}

// A dropping is a stack that accepts AH and drops its packets.
type dropping struct{ *classic.Stack }

func (dropping) CarryFault(_ context.Context, s *klips.SASpec) klips.Fault {
	if s.ID.Proto == klips.ProtoAH {
		return klips.FaultAlgorithm
	}
	return klips.FaultNone
}

// TestCarryFault: the two SAs of a connection have one note.
func TestCarryFault(t *testing.T) {
	k := classictest.NewKernel(t, netip.MustParseAddr("10.0.0.1"))
	b := newBench(t, "config setup\n interfaces=ipsec0=eth0\n"+ends+"spibase=0x200\n ah=hmac-md5-96\n ahreplay_window=64\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n")
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(dropping{classic.New(k.Machine())}) }}
	r := clitest.Run(app(left, &b.table), w, "--config", b.file, "--up", "t")
	if r.Status != 0 || strings.Count(r.Err, "note:") != 1 || !strings.Contains(r.Err, "drops its packets") {
		t.Errorf("--up: status %d, %q, want one note", r.Status, r.Err)
	}
}

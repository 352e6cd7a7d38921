package spigrp_test

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A groupStack records whole groups; clitest.Stack splits them into pairs.
type groupStack struct {
	clitest.Stack
	groups  [][]klips.SAID
	err     error
	missing klips.SAID // GetSA does not find it
}

func (s *groupStack) Group(_ context.Context, ids []klips.SAID) error {
	s.groups = append(s.groups, slices.Clone(ids))
	return s.err
}

func (s *groupStack) Ungroup(_ context.Context, id klips.SAID) error {
	s.groups = append(s.groups, []klips.SAID{id})
	return s.err
}

func (s *groupStack) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	if id == s.missing {
		return klips.SA{}, &klips.OpError{Op: "get SA", Err: syscall.ESRCH}
	}
	return klips.SA{ID: id}, nil
}

func run(s *groupStack, line string) (clitest.Result, [][]klips.SAID) {
	app := spigrp.App()
	w := clitest.World{Resolver: clitest.Names, Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}
	return clitest.Run(app, w, strings.Fields(line)...), s.groups
}

func texts(ids []klips.SAID) string {
	var out []string
	for _, id := range ids {
		out = append(out, id.String())
	}
	return strings.Join(out, " ")
}

// TestGroup checks the request of one call, with the examples of KLIPS' manual page in
// both forms and both families.
func TestGroup(t *testing.T) {
	tests := []struct{ line, want string }{
		{"inet gw2 0x113 tun inet gw2 0x115 esp inet gw2 0x116 ah", "tun0x113@10.2.2.2 esp0x115@10.2.2.2 ah0x116@10.2.2.2"},
		{"--said tun.113@gw2 esp.115@gw2 ah.116@gw2", "tun0x113@10.2.2.2 esp0x115@10.2.2.2 ah0x116@10.2.2.2"},
		{"--said tun:233@3049:1::1 esp:235@3049:1::1 ah:236@3049:1::1", "tun0x233@3049:1::1 esp0x235@3049:1::1 ah0x236@3049:1::1"},
		{"inet6 3049:1::1 0x233 tun inet6 3049:1::1 0x235 esp inet6 3049:1::1 0x236 ah", "tun0x233@3049:1::1 esp0x235@3049:1::1 ah0x236@3049:1::1"},
		{"inet6 gw6 563 comp", "comp0x233@3049:1::1"},
		{"inet 1.2.3.4 0 tun inet6 ::1 0xffffffff ah", "tun0x0@1.2.3.4 ah0xffffffff@::1"},
		{"--said tun0x100@1.2.3.4 comp0x100@1.2.3.4 esp0x100@1.2.3.4 ah0x100@::1", "tun0x100@1.2.3.4 comp0x100@1.2.3.4 esp0x100@1.2.3.4 ah0x100@::1"},
		{"--said esp0x100@1.2.3.4", "esp0x100@1.2.3.4"},
		{"--debug --label x --said esp0x100@1.2.3.4", "esp0x100@1.2.3.4"},
		{"--label --debug inet 1.2.3.4 0400 esp", "esp0x100@1.2.3.4"},
	}
	for _, tt := range tests {
		r, groups := run(&groupStack{}, tt.line)
		if r.Status != 0 || r.Out != "" || len(groups) != 1 || texts(groups[0]) != tt.want {
			t.Errorf("spigrp %s: status %d, groups %v, want %s; %s", tt.line, r.Status, groups, tt.want, r.Err)
		}
	}
}

func TestRefused(t *testing.T) {
	five := strings.Repeat(" esp0x100@1.2.3.4", 5)
	tests := []struct{ line, want string }{
		{"--label", "--label needs a value"},
		{"--debug --label", "--label needs a value"},
		{"--said", "--said needs one to 4 SAs, written like tun0x113@192.0.2.1"},
		{"--said" + five, "5 SAs; a group has at most 4"},
		{"--said esp0x100", "esp0x100: no @ in SAID; it is written like esp0x1234@192.0.2.1"},
		{"--said esp0x100@1.2.3.4 --debug", "--debug at the place of SA 2: after --said each SA is one word, written like tun0x113@192.0.2.1"},
		{"--label x --debug", "--debug is at the wrong place; --debug comes first, then --label"},
		{"--sai esp0x100@1.2.3.4", "unknown option --sai; here are --debug, --label, --said, --json, --help and --version, in full and in this order"},
		{"--label=x --said esp0x100@1.2.3.4", "unknown option --label; here are --debug, --label, --said, --json, --help and --version, in full and in this order"},
		{"--said tun0x113@1.2.3.4 inet 1.2.3.4 0x115 esp", "inet at the place of SA 2: after --said each SA is one word, written like tun0x113@192.0.2.1"},
		{"inet 1.2.3.4 0x115 esp --said tun0x113@1.2.3.4", "--said after inet: give all SAs as one word each after --said, or all as 4 arguments"},
		{"--authkey=0xfeedface", "unknown option --authkey; here are --debug, --label, --said, --json, --help and --version, in full and in this order"},
		{"--0xfeedface", "unknown option (12 characters, not shown: it may be part of a key); here are --debug, --label, --said, --json, --help and --version, in full and in this order"},
		{"inet", "the number of arguments is 1; each SA has 4: inet or inet6, address, SPI, protocol (or use --said)"},
		{"inet 1.2.3.4 0x100 esp inet", "the number of arguments is 5; each SA has 4: inet or inet6, address, SPI, protocol (or use --said)"},
		{strings.Repeat("inet 1.2.3.4 0x100 esp ", 5), "the number of arguments is 20; a group has at most 4 SAs of 4 arguments each"},
		{"inet4 1.2.3.4 0x100 esp", "SA 1: address family inet4: not one of inet, inet6"},
		{"inet 1.2.3.4 0x100 esp inet 1.2.3.400 0x100 ah", "SA 2: address 1.2.3.400: byte 4 of a dotted decimal address is above 255"},
		{"inet gw6 0x100 esp", "SA 1: address gw6: not a numeric IPv4 address, and looking it up as a name failed: no such host"},
		{"inet 1.2.3.4 0x1ffffffff esp", "SA 1: SPI (11 characters, not shown: it may be a key): too large, at most 0xffffffff"},
		{"inet 1.2.3.4 0x100 ESP", "SA 1: protocol ESP: not one of ah, esp, tun, comp"},
	}
	for _, tt := range tests {
		r, groups := run(&groupStack{}, tt.line)
		name := "ipsec spigrp"
		if strings.Contains(tt.line, "--label x") {
			name += " --label x"
		}
		if want := name + ": " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitUsage || r.Opened || groups != nil {
			t.Errorf("spigrp %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

// TestStackRefuses checks that the error names the SA at fault.
func TestStackRefuses(t *testing.T) {
	esp, _ := syntax.ParseSAID("esp0x115@10.0.0.2", nil)
	const line = "--said tun0x113@10.0.0.2 esp0x115@10.0.0.2 ah0x116@10.0.0.2"
	tests := []struct {
		line  string
		stack groupStack
		want  string
	}{
		{line, groupStack{err: &klips.OpError{Object: "esp0x115@10.0.0.2", Err: syscall.ENOENT}},
			"esp0x115@10.0.0.2: no such SA; make it first with ipsec spi (ipsec spi lists those that exist)"},
		{line, groupStack{err: &klips.OpError{Err: syscall.ENOENT}, missing: esp},
			"esp0x115@10.0.0.2: no such SA; make it first with ipsec spi (ipsec spi lists those that exist)"},
		{line, groupStack{err: &klips.OpError{Object: "tun0x113@10.0.0.2", Err: syscall.EEXIST}},
			"tun0x113@10.0.0.2: already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)"},
		{line, groupStack{err: syscall.EEXIST},
			"tun0x113@10.0.0.2 esp0x115@10.0.0.2 ah0x116@10.0.0.2: already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)"},
		{"--said tun0x113@10.0.0.2 esp0x115@10.0.0.2 tun0x113@10.0.0.2", groupStack{err: &klips.OpError{Object: "tun0x113@10.0.0.2", Err: syscall.EEXIST}},
			"tun0x113@10.0.0.2: not grouped: it is named twice"},
		{"--said tun0x113@10.0.0.2 esp0x115@10.0.0.2 tun0x113@10.0.0.2", groupStack{err: &klips.OpError{Object: "esp0x115@10.0.0.2", Err: syscall.EEXIST}},
			"esp0x115@10.0.0.2: already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)"},
		{"inet 10.0.0.2 0x115 esp", groupStack{err: syscall.ENOENT}, "esp0x115@10.0.0.2: no such SA; ipsec spigrp lists the groups"},
	}
	for _, tt := range tests {
		r, _ := run(&tt.stack, tt.line)
		if want := "ipsec spigrp: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitFailed || tt.stack.Closed != 1 {
			t.Errorf("spigrp %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

func TestOutput(t *testing.T) {
	for _, line := range []string{"", "--debug", "--label x", "--debug --label x"} {
		s := &groupStack{}
		if r, _ := run(s, line); r.Status != 0 || !slices.Equal(s.Lists, []string{"spi"}) {
			t.Errorf("spigrp %s: status %d, lists %q", line, r.Status, s.Lists)
		}
	}
	for line, want := range map[string]string{"--version": "ipsec spigrp 1.2.3\n", "--label x --version": "ipsec spigrp --label x 1.2.3\n"} {
		if r, _ := run(&groupStack{}, line); r.Status != 0 || r.Out != want {
			t.Errorf("spigrp %s: status %d, %q, want %q", line, r.Status, r.Out, want)
		}
	}
	r, _ := run(&groupStack{}, "--help")
	for _, o := range spigrp.App().Options {
		if r.Status != 0 || !strings.Contains(r.Out, "--"+o.Name) {
			t.Errorf("usage lacks --%s:\n%s", o.Name, r.Out)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	clitest.FuzzCommandLine(f, spigrp.App,
		"", "--help", "--debug --label x", "--said tun.113@gw2 esp.115@gw2 ah.116@gw2",
		"inet gw2 0x113 tun inet gw2 0x115 esp inet gw2 0x116 ah",
		"inet6 3049:1::1 0x233 tun inet6 3049:1::1 0x235 esp inet6 3049:1::1 0x236 ah",
		"--said %pass", "--said tun:0@::", "inet 1.2.3.4 0 tun")
}

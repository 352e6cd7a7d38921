package eroute_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A flowStack records its calls as text.
type flowStack struct {
	clitest.Stack
	calls []string
	err   error
}

func flow(s klips.Selector) string {
	return fmt.Sprintf("%v>%v/%d:%d:%d", s.Src, s.Dst, s.Proto, s.SrcPort, s.DstPort)
}

func (s *flowStack) SetEroute(_ context.Context, e klips.Eroute, op klips.ErouteOp) error {
	verbs := [...]string{klips.ErouteAdd: "add", klips.ErouteReplace: "replace", klips.ErouteAddIn: "addin", klips.ErouteReplaceIn: "replacein"}
	s.calls = append(s.calls, verbs[op]+" "+flow(e.Selector)+" "+klips.JoinSAIDs(e.SAIDs()))
	return s.err
}

func (s *flowStack) DeleteEroute(_ context.Context, sel klips.Selector) error {
	s.calls = append(s.calls, "del "+flow(sel))
	return s.err
}

func (s *flowStack) ClearEroutes(context.Context) error {
	s.calls = append(s.calls, "clear")
	return s.err
}

func run(s *flowStack, line string) clitest.Result {
	w := clitest.World{Resolver: clitest.Names, Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}
	return clitest.Run(eroute.App(), w, strings.Fields(line)...)
}

const (
	flow4 = "--eraf inet --src 192.0.2.0/24 --dst 192.0.1.0/24 "
	flow6 = "--eraf inet6 --src 2001:db8:1::/48 --dst %default "
	sa    = "--said tun0x123@192.1.2.45 "
	parts = "--af inet --edst 192.1.2.45 --spi 0x123 --proto tun "
)

func TestRequests(t *testing.T) {
	const want4 = "192.0.2.0/24>192.0.1.0/24/"
	tests := []struct{ line, want string }{
		{"--add " + flow4 + sa, "add " + want4 + "0:0:0 tun0x123@192.1.2.45"},
		{"--replace " + flow4 + parts, "replace " + want4 + "0:0:0 tun0x123@192.1.2.45"},
		{sa + flow4 + "--addin", "addin " + want4 + "0:0:0 tun0x123@192.1.2.45"},
		{"--replacein " + flow4 + "--af inet --edst gw2 --spi 0400 --proto esp", "replacein " + want4 + "0:0:0 esp0x100@10.2.2.2"},
		{"--add " + flow4 + "--said tun:123@gw6", "add " + want4 + "0:0:0 tun0x123@3049:1::1"},
		{"--add " + flow6 + sa, "add 2001:db8:1::/48>::/0/0:0:0 tun0x123@192.1.2.45"},
		{"--add --src 10/8 --dst 10.0.0.1/255.255.255.255 --said %trap", "add 10.0.0.0/8>10.0.0.1/32/0:0:0 %trap"},
		{"--add " + flow4 + "--said %passthrough", "add " + want4 + "0:0:0 %passthrough4"},
		{"--add " + flow4 + sa + "--transport-proto tcp --dst-port 80", "add " + want4 + "6:0:80 tun0x123@192.1.2.45"},
		{"--add " + flow4 + sa + "--transport-proto UDP --src-port isakmp --dst-port www", "add " + want4 + "17:500:80 tun0x123@192.1.2.45"},
		{"--add " + flow4 + sa + "--transport-proto 0x11 --src-port 0 --dst-port 65535", "add " + want4 + "17:0:65535 tun0x123@192.1.2.45"},
		{"--add " + flow4 + sa + "--transport-proto icmp", "add " + want4 + "1:0:0 tun0x123@192.1.2.45"},
		{"--add " + flow4 + sa + "--transport-proto ip", "add " + want4 + "0:0:0 tun0x123@192.1.2.45"},
		{"--add " + flow4 + sa + "--also tun0x125@192.1.2.45 --also esp0x124@192.1.2.45", "add " + want4 + "0:0:0 tun0x123@192.1.2.45 tun0x125@192.1.2.45 esp0x124@192.1.2.45"},
		{"--replace --also tun0x125@192.1.2.45 " + flow4 + parts, "replace " + want4 + "0:0:0 tun0x123@192.1.2.45 tun0x125@192.1.2.45"},
		{"--add " + flow6 + "--said tun:123@gw6 --also tun:124@gw6", "add 2001:db8:1::/48>::/0/0:0:0 tun0x123@3049:1::1 tun0x124@3049:1::1"},
		{"--del " + flow4, "del " + want4 + "0:0:0"},
		{"--del " + flow4 + sa + "--also tun0x125@192.1.2.45", "del " + want4 + "0:0:0"},
		{"--add " + flow4 + sa + "--transport-proto tcp,udp --dst-port 5060", "add " + want4 + "0:0:5060 tun0x123@192.1.2.45"},
		{"--add " + flow4 + sa + "--transport-proto tcp,udp --src-port 5060", "add " + want4 + "0:5060:0 tun0x123@192.1.2.45"},
		{"--del " + flow4 + sa + "--transport-proto 17 --dst-port 53", "del " + want4 + "17:0:53"},
		{"--clear", "clear"},
		{"--cl " + flow4 + sa, "clear"},
	}
	for _, tt := range tests {
		s := &flowStack{}
		switch {
		case strings.Contains(tt.line, "--addin"):
			s.Local = netip.MustParseAddr("192.1.2.45")
		case strings.Contains(tt.line, "--replacein"):
			s.Local = netip.MustParseAddr("10.2.2.2")
		}
		if r := run(s, tt.line); r.Status != 0 || r.Out != "" || r.Err != "" || !slices.Equal(s.calls, []string{tt.want}) || s.Closed != 1 {
			t.Errorf("eroute %s: status %d, calls %q, want %q; %s", tt.line, r.Status, s.calls, tt.want, r.Err)
		}
	}
}

// TestNotes: an accepted command that may not be what the user meant gets a note of one
// line.
func TestNotes(t *testing.T) {
	const wide = "has host bits set; it is taken as "
	tests := []struct{ line, want string }{
		{"--add --src 10.1.0.1/16 --dst 10.2.0.0/16 " + sa, "--src 10.1.0.1/16 " + wide + "10.1.0.0/16 (the host alone is 10.1.0.1/32)"},
		{"--replace --src 10.1.0.0/16 --dst 10.2.3.4/255.255.0.0 " + sa, "--dst 10.2.3.4/255.255.0.0 " + wide + "10.2.0.0/16 (the host alone is 10.2.3.4/32)"},
		{"--addin --src 10.1.0.1/16 --dst 10.2.0.0/16 --said tun0x100@192.0.2.1", "--src 10.1.0.1/16 " + wide + "10.1.0.0/16 (the host alone is 10.1.0.1/32)"},
		{"--replacein --src 10.1.0.1/0 --dst 10.2.0.0/16 --said tun0x100@192.0.2.1", "--src 10.1.0.1/0 " + wide + "0.0.0.0/0 (the host alone is 10.1.0.1/32)"},
		{"--del --src 10.1.0.1/16 --dst 10.2.0.0/16", "--src 10.1.0.1/16 " + wide + "10.1.0.0/16 (the host alone is 10.1.0.1/32)"},
		{"--add --src 2001:db8::1/32 --dst ::/0 " + sa, "--src 2001:db8::1/32 " + wide + "2001:db8::/32 (the host alone is 2001:db8::1/128)"},
		{"--add --src gw1/8 --dst 10/8 " + sa, "--src gw1/8 " + wide + "10.0.0.0/8 (the host alone is 10.1.1.1/32)"},
		{"--add --src 10.1.0.1/32 --dst 10/8 " + sa, ""},
		{"--add --eraf inet6 --src %default --dst 2001:db8::1/128 " + sa, ""},
		{"--clear --src 10.1.0.1/16", ""},
	}
	for _, tt := range tests {
		if tt.want != "" {
			tt.want = "ipsec eroute: note: " + tt.want + "\n"
		}
		s := &flowStack{}
		s.Local = netip.MustParseAddr("192.0.2.1")
		if r := run(s, tt.line); r.Status != 0 || r.Out != "" || r.Err != tt.want || len(s.calls) != 1 {
			t.Errorf("eroute %s: status %d, %d calls\n got %q\nwant %q", tt.line, r.Status, len(s.calls), r.Err, tt.want)
		}
	}
	// A command that is refused for another reason gets no note.
	if r := run(&flowStack{}, "--add --src 10.1.0.1/16 "+sa); strings.Contains(r.Err, "note") || r.Status != cli.ExitUsage {
		t.Errorf("status %d, %q", r.Status, r.Err)
	}
	s := &flowStack{}
	s.NoSAs = true
	r := run(s, "--add "+flow4+"--said tun0x999@192.0.2.2 --also tun0x998@192.0.2.2")
	if want := "ipsec eroute: note: there is no SA tun0x999@192.0.2.2; packets of this eroute are dropped until it is made (ipsec spi)\n" +
		"ipsec eroute: note: there is no SA tun0x998@192.0.2.2; its share of the packets goes to tun0x999@192.0.2.2 until it is made (ipsec spi)\n"; r.Err != want {
		t.Errorf("%q, want %q", r.Err, want)
	}
	r = run(s, "--add "+flow4+"--said tun0x999@192.0.2.2 --label here")
	if want := "ipsec eroute --label here: note: there is no SA tun0x999@192.0.2.2; packets of this eroute are dropped until it is made (ipsec spi)\n"; r.Err != want {
		t.Errorf("%q, want %q", r.Err, want)
	}
}

// sixteen returns the options for sixteen further SAs.
func sixteen() (line string) {
	for i := range 16 {
		line += fmt.Sprintf("--also tun0x%x@192.1.2.45 ", 0x200+i)
	}
	return line
}

func TestRefused(t *testing.T) {
	tests := []struct{ line, want string }{
		{flow4 + sa, "nothing to do; give one of --add, --replace, --addin, --replacein, --del and --clear"},
		{"--add --del", "--del after --add; give one of --add, --replace, --addin, --replacein, --del and --clear"},
		{"--ad " + flow4, "option --ad can mean --add, --addin; write more of its name"},
		{"--add " + flow4, "--add needs an SA: --said SAID, or --af, --edst, --spi and --proto"},
		{"--addin " + flow4 + "--af inet --edst 10.2.2.2 --proto tun", "--addin needs an SA, and of --af, --edst, --spi and --proto there is no --spi"},
		{"--add " + sa + "--dst 10/8", "--add needs --src SUBNET"},
		{"--del --src 10/8", "--del needs --dst SUBNET"},
		{"--add " + sa + "--src 10/8 --dst 2001:db8::/32", "--src 10.0.0.0/8 and --dst 2001:db8::/32 are of different families"},
		{"--add " + sa + "--src 10/8 --dst 10/8 --eraf inet6", "--src 10.0.0.0/8 is inet, but --eraf says inet6"},
		{"--add " + sa + "--src 10.0.0.1 --dst 10/8", "--src 10.0.0.1: no / in subnet; a single host is written with /32 (IPv4) or /128 (IPv6)"},
		{"--add " + sa + "--src %default --dst 10/8", "--src %default: %default needs an address family; say which before it"},
		{"--add " + sa + "--src 10/8 --src 11/8", "--src is given twice: 10/8 and 11/8"},
		{"--add " + sa + parts, "--said and --af both name the SA; give one"},
		{"--add " + parts + sa, "--said and --af both name the SA; give one"},
		{"--add " + flow4 + "--edst 10.2.2.2 --af inet6 --spi 0x123 --proto tun", "--edst is an inet address, but --af says inet6"},
		{"--add --said esp0xff@10.2.2.2", "--said esp0xff@10.2.2.2: SPIs below 0x100 are reserved"},
		{"--add --spi 255", "--spi 255: SPIs below 0x100 are reserved"},
		{"--add --also esp0xff@10.2.2.2", "--also esp0xff@10.2.2.2: SPIs below 0x100 are reserved"},
		{"--add --also tun0x124", "--also tun0x124: no @ in SAID; it is written like esp0x1234@192.0.2.1"},
		{"--add " + flow4 + "--also tun0x124@192.1.2.45", "--add needs an SA: --said SAID, or --af, --edst, --spi and --proto"},
		{"--addin " + flow4 + sa + "--also tun0x124@192.1.2.45", "--also is for --add and --replace; set the inbound policy of each SA with a --addin of its own"},
		{"--replacein " + flow4 + sa + "--also tun0x124@192.1.2.45", "--also is for --add and --replace; set the inbound policy of each SA with a --replacein of its own"},
		{"--also tun0x124@192.1.2.45", "nothing to do; give one of --add, --replace, --addin, --replacein, --del and --clear"},
		{"--add " + flow4 + sa + "--also %drop", "--also %drop: a shunt takes all packets of its eroute, and does not go with SAs: leave it out, or leave --also out"},
		{"--add " + flow4 + "--said %drop --also tun0x124@192.1.2.45", "--said %drop: a shunt takes all packets of its eroute, and does not go with SAs: leave it out, or leave --also out"},
		{"--add " + flow4 + sa + "--also tun0x124@192.1.2.46", "--also tun0x124@192.1.2.46: the SAs of one eroute go to one peer, so all have the destination of the first: leave it out, or make another eroute for it"},
		{"--add " + flow4 + sa + "--also tun0x123@192.1.2.45", "--also tun0x123@192.1.2.45: an eroute names each of its SAs once: leave it out"},
		{"--add " + flow4 + sa + "--also tun0x124@192.1.2.45 --also tun0x124@192.1.2.45", "--also tun0x124@192.1.2.45: an eroute names each of its SAs once: leave it out"},
		{"--add " + flow4 + sa + sixteen(), "--also tun0x20f@192.1.2.45: an eroute can have 15 further SAs at most: leave it out"},
		{"--add --proto int", "--proto int: not one of ah, esp, tun, comp"},
		{"--add --eraf inet4", "--eraf inet4: not one of inet, inet6"},
		{"--del " + flow4 + "--transport-proto 256", "--transport-proto 256: too large, at most 255"},
		{"--del " + flow4 + "--transport-proto mptcp", "--transport-proto mptcp: its number is 262, at most 255 can be selected"},
		{"--del " + flow4 + "--transport-proto tcp,udp", "--transport-proto tcp,udp needs a port; give --src-port or --dst-port"},
		{"--del " + flow4 + "--transport-proto tcp,udp --dst-port 0", "--transport-proto tcp,udp needs a port; give --src-port or --dst-port"},
		{"--del " + flow4 + "--transport-proto udp,tcp --dst-port 53", "--transport-proto udp,tcp: neither a number nor a known name"},
		{"--del " + flow4 + "--transport-proto nosuch", "--transport-proto nosuch: neither a number nor a known name"},
		{"--del " + flow4 + "--transport-proto tcp --src-port 65536", "--src-port 65536: too large, at most 65535"},
		{"--del " + flow4 + "--transport-proto tcp --dst-port=", `--dst-port "": empty text`},
		{"--del " + flow4 + "--dst-port 80", "ports need --transport-proto tcp, udp or tcp,udp"},
		{"--clear --src-port 0", "ports need --transport-proto tcp, udp or tcp,udp"},
		{"--del " + flow4 + "--transport-proto icmp --dst-port 8", "ports need --transport-proto tcp, udp or tcp,udp"},
		{"--clear now", "unexpected argument number 2 (3 characters, not shown: it may be part of a key); everything here is given with options"},
	}
	for _, tt := range tests {
		s := &flowStack{}
		r := run(s, tt.line)
		if want := "ipsec eroute: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitUsage || r.Opened {
			t.Errorf("eroute %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

func TestStackRefuses(t *testing.T) {
	const noEroute = "no eroute has exactly these addresses, masks, protocol and ports; ipsec eroute lists those that exist"
	tests := []struct {
		line string
		err  error
		want string
	}{
		{"--add " + flow4 + sa, syscall.EEXIST, "192.0.2.0/24 -> 192.0.1.0/24: there is an eroute with these addresses, masks, protocol and ports; use --replace, or remove it first with --del"},
		{"--del " + flow4 + "--transport-proto 6 --src-port 1 --dst-port 2", syscall.ENOENT, "192.0.2.0/24 -> 192.0.1.0/24 protocol 6 source port 1 destination port 2: " + noEroute},
		{"--del " + flow4, syscall.EFAULT, "192.0.2.0/24 -> 192.0.1.0/24: " + noEroute},
		{"--replace " + flow4 + sa, syscall.EFAULT, "192.0.2.0/24 -> 192.0.1.0/24: " + noEroute + "; add it with --add"},
		{"--addin " + flow4 + sa, syscall.ENOENT, "tun0x123@192.1.2.45: inbound policy not set: it is no tun SA, and none follows it in its group; on this stack an inbound policy belongs to a tun SA (ipsec spigrp lists the groups)"},
		{"--clear", syscall.EPERM, "the eroutes were not removed: not permitted; run it as root (CAP_NET_ADMIN is needed)"},
	}
	for _, tt := range tests {
		r := run(&flowStack{err: tt.err}, tt.line)
		if want := "ipsec eroute: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitFailed {
			t.Errorf("eroute %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

func TestOutput(t *testing.T) {
	for _, line := range []string{"", "--debug", "--label x"} {
		s := &flowStack{}
		if r := run(s, line); r.Status != 0 || r.Out != "" || !slices.Equal(s.Lists, []string{"eroute"}) {
			t.Errorf("eroute %s: status %d, lists %q", line, r.Status, s.Lists)
		}
	}
	r := run(&flowStack{}, "--help")
	for _, o := range eroute.App().Options {
		if r.Status != 0 || !strings.Contains(r.Out, "--"+o.Name) {
			t.Errorf("usage lacks --%s:\n%s", o.Name, r.Out)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	clitest.FuzzCommandLine(f, eroute.App,
		"", "--help", "--clear", "--add "+flow4+sa, "--replace "+flow6+parts, "--del "+flow4+"--transport-proto udp --dst-port isakmp",
		"--addin --src gw1/32 --dst gw2/255.255.0.0 --said tun.123@gw2", "--replacein --label x --debug "+flow6+"--said tun:123@gw6",
		"--add --src 10.0.0.0/8:80 --dst 10/33 --said %hold", "--add "+flow4+sa+"--also tun0x124@192.1.2.45 --also %drop")
}

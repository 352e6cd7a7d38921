package eroute

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
)

// TestKLIPSMasks: a KLIPS kernel compares masks only if several eroutes have the same
// addresses. Even so no eroute is taken for another.
func TestKLIPSMasks(t *testing.T) {
	k := classictest.NewKernel(t, netip.MustParseAddr("10.0.0.1"))
	flow := func(op, dst string, more ...string) []string {
		return append([]string{op, "--eraf", "inet", "--src", "10.1.0.0/16", "--dst", dst}, more...)
	}
	const route16 = "0          10.1.0.0/16        -> 10.4.0.0/16        => %drop\n"
	const route17 = "0          10.1.0.0/16        -> 10.4.0.0/17        => %drop\n"
	for _, step := range []struct {
		args []string
		err  string // standard error
		want string // the table after the step
	}{
		{flow("--add", "10.4.0.0/16", "--said", "%drop"), "", route16},
		{flow("--del", "10.4.0.0/17"), "ipsec eroute: 10.1.0.0/16 -> 10.4.0.0/17: eroute not removed: there is none with these masks, and KLIPS would remove 10.1.0.0/16 -> 10.4.0.0/16 in its place\n", route16},
		{flow("--replace", "10.4.0.0/17", "--said", "%drop"), "ipsec eroute: 10.1.0.0/16 -> 10.4.0.0/17: eroute not replaced: there is none with these masks, and KLIPS would replace 10.1.0.0/16 -> 10.4.0.0/16; add it, which leaves that one alone\n", route16},
		{flow("--add", "10.4.0.0/17", "--said", "%drop"), "", route17 + route16},
		{flow("--del", "10.4.0.0/18"), "ipsec eroute: 10.1.0.0/16 -> 10.4.0.0/18: eroute not removed: there is none with these masks, and KLIPS would remove 10.1.0.0/16 -> 10.4.0.0/17 in its place\n", route17 + route16},
		{flow("--del", "10.4.0.0/16"), "", route17},
		{flow("--del", "10.4.0.0/17"), "", ""},
	} {
		w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return classic.New(k.Machine()) }}
		r := clitest.Run(App(), w, step.args...)
		table, err := os.ReadFile(filepath.Join(k.ProcNet, "ipsec_eroute"))
		if (r.Status == 0) != (step.err == "") || r.Err != step.err || err != nil || string(table) != step.want {
			t.Errorf("%q: status %d, %swant %s\ntable, %v:\n%swant\n%s", step.args, r.Status, r.Err, step.err, err, table, step.want)
		}
	}
}

// TestKLIPSPolicy: a KLIPS kernel has inbound policies only for tun SAs, and only for
// all protocols and ports.
func TestKLIPSPolicy(t *testing.T) {
	k := classictest.NewKernel(t, netip.MustParseAddr("192.0.2.1"))
	stack := classic.New(k.Machine())
	defer stack.Close()
	ids := []klips.SAID{
		{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x100, Proto: klips.ProtoTun},
		{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x101, Proto: klips.ProtoESP},
	}
	for i, tr := range []klips.Transform{{}, {Enc: alg.AES, Auth: alg.SHA1}} {
		s := &klips.SASpec{ID: ids[i], Src: netip.MustParseAddr("192.0.2.2"), Transform: tr, EncKey: make([]byte, 16*i), AuthKey: make([]byte, 20*i)}
		if err := stack.AddSA(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	const note = "ipsec eroute: note: on this stack an inbound policy is for all protocols and ports; --transport-proto, --src-port and --dst-port have no effect on it\n"
	for _, tt := range []struct {
		said string
		more []string
		err  string
	}{
		{"esp0x101@192.0.2.1", nil, "ipsec eroute: esp0x101@192.0.2.1: inbound policy not set: it is no tun SA, and none follows it in its group; on this stack an inbound policy belongs to a tun SA (ipsec spigrp lists the groups)\n"},
		{"tun0x100@192.0.2.1", nil, ""},
		{"tun0x100@192.0.2.1", []string{"--transport-proto", "tcp", "--dst-port", "80"}, note},
		{"tun0x100@192.0.2.1", []string{"--transport-proto", "0"}, ""},
	} {
		w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return classic.New(k.Machine()) }}
		args := append([]string{"--addin", "--src", "10.2.0.0/16", "--dst", "10.1.0.0/16", "--said", tt.said}, tt.more...)
		if r := clitest.Run(App(), w, args...); r.Err != tt.err {
			t.Errorf("%q: status %d, %swant %s", args, r.Status, r.Err, tt.err)
		}
	}
}

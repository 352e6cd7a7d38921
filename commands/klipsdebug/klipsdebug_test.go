package klipsdebug_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A debugStack records changes of the masks.
type debugStack struct {
	clitest.Stack
	changes []klips.DebugChange
	err     error
}

func (s *debugStack) SetDebug(_ context.Context, c klips.DebugChange) error {
	s.changes = append(s.changes, c)
	return s.err
}

func run(s *debugStack, line string) clitest.Result {
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}
	return clitest.Run(klipsdebug.App(), w, strings.Fields(line)...)
}

const all = ^uint32(0)

// only returns masks that are zero except one. but returns masks of all ones except
// one.
func only(a klips.DebugArea, bits uint32) klips.DebugChange {
	c := klips.DebugChange{Set: true}
	c.Masks[a] = bits
	return c
}

func but(a klips.DebugArea, bits uint32) klips.DebugChange {
	var c klips.DebugChange
	for i := range c.Masks {
		c.Masks[i] = all
	}
	c.Masks[a] = bits
	return c
}

func TestRequests(t *testing.T) {
	everything := but(klips.DebugVerbose, 0)
	everything.Set = true
	tests := []struct {
		line string
		want klips.DebugChange
	}{
		{"--all", everything},
		{"--set all", everything},
		{"--none", klips.DebugChange{}},
		{"--clear=all", klips.DebugChange{}},
		{"--set esp", only(klips.DebugESP, all)},
		{"--clear esp", but(klips.DebugESP, 0)},
		{"--set verbose", only(klips.DebugVerbose, all)},
		{"--set netlink", only(klips.DebugNetlink, all)},
		{"--clear netlink", but(klips.DebugNetlink, 0)},
		{"--set tncfg", only(klips.DebugTunnel, 0x100)},
		{"--set xmit", only(klips.DebugTunnel, 0x10)},
		{"--set tunnel-xmit", only(klips.DebugTunnel, 0x10)},
		{"--clear xmit", but(klips.DebugTunnel, 0xffffffef)},
		{"--set comp", only(klips.DebugIPComp, all)},
		{"--set ipcomp", only(klips.DebugIPComp, all)},
		{"--s radij --label x", only(klips.DebugRadij, all)},
	}
	for _, tt := range tests {
		s := &debugStack{}
		r := run(s, tt.line)
		if r.Status != 0 || r.Out != "" || r.Err != "" || s.Closed != 1 {
			t.Errorf("klipsdebug %s: status %d, %s", tt.line, r.Status, r.Err)
		}
		if diff := cmp.Diff([]klips.DebugChange{tt.want}, s.changes); diff != "" {
			t.Errorf("klipsdebug %s (-want +got):\n%s", tt.line, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	const words = "xmit, tunnel-xmit, netlink, xform, eroute, spi, radij, esp, ah, rcv, pfkey, comp, ipcomp, verbose"
	tests := []struct{ line, want string }{
		{"--set esp --clear ah", "--clear after --set; give one of --set, --clear, --all and --none"},
		{"--all --all", "--all after --all; give one of --set, --clear, --all and --none"},
		{"--set ESP", "--set ESP: unknown area; there are all, tunnel, tncfg, " + words},
		{"--set eruote", "--set eruote: unknown area; did you mean eroute?"},
		{"--clear tncfg", "--clear tncfg: unknown area; there are all, tunnel, " + words},
		{"--set", "option --set needs a value (AREA)"},
		{"--none esp", "unexpected argument esp; everything here is given with options"},
		{"--n=1", "option --none takes no value"},
	}
	for _, tt := range tests {
		s := &debugStack{}
		r := run(s, tt.line)
		if want := "ipsec klipsdebug: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitUsage || r.Opened {
			t.Errorf("klipsdebug %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
	r := run(&debugStack{err: syscall.EACCES}, "--all")
	if want := "ipsec klipsdebug: the debug masks were not changed: not permitted; run it as root (CAP_NET_ADMIN is needed)\n"; r.Err != want || r.Status != cli.ExitFailed {
		t.Errorf("klipsdebug --all without privilege: status %d, %s", r.Status, r.Err)
	}
}

func TestOutput(t *testing.T) {
	r := run(&debugStack{}, "")
	if r.Status != 0 || !strings.HasPrefix(r.Out, "debug_tunnel=00000000.\n") {
		t.Errorf("klipsdebug: status %d, %q", r.Status, r.Out)
	}
	r = run(&debugStack{}, "--help")
	for _, o := range klipsdebug.App().Options {
		if r.Status != 0 || !strings.Contains(r.Out, "--"+o.Name) {
			t.Errorf("usage lacks --%s:\n%s", o.Name, r.Out)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	clitest.FuzzCommandLine(f, klipsdebug.App,
		"", "--help", "--all", "--none", "--set tncfg", "--clear tunnel-xmit", "--set=ipcomp --debug --label x", "--clear tncfg")
}

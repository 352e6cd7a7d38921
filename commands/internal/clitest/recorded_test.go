package clitest_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/syntax"
)

// apps are the recorded applets.
var apps = map[string]func() *cli.App{
	"spi": spi.App, "spigrp": spigrp.App, "eroute": eroute.App, "tncfg": tncfg.App, "klipsdebug": klipsdebug.App,
}

// A verdict is the expected result of an applet, from a recording.
type verdict struct {
	*recorded.Command // the recording
	accepted          bool
	messages          []string
	ioctls            []string
}

func verdictOf(t *testing.T, c *recorded.Command) verdict {
	return verdict{c, c.Exit == 0, messageTexts(c), ioctlTexts(t, c)}
}

// ioctlTexts returns the device calls in the form of clitest.Stack.
func ioctlTexts(t *testing.T, c *recorded.Command) []string {
	var out []string
	for _, i := range c.Ioctls {
		switch classic.Request(i.Request) {
		case classic.SetDev:
			out = append(out, "attach "+i.Virtual()+" "+i.Physical())
		case classic.DelDev:
			out = append(out, "detach "+i.Virtual())
		case classic.ClearDev:
			out = append(out, "clear")
		default:
			t.Fatalf("%s: ioctl %+v", c.ID, i)
		}
	}
	return out
}

// messageTexts returns the messages without two properties of older tools:
// uninitialised bytes become zero, and lifetime extensions of 40 bytes lose their last
// 8 bytes (packets, always 0), as KLIPS kernels since Linux 2.6 require.
func messageTexts(c *recorded.Command) []string {
	out := make([]string, len(c.Messages))
	for i, b := range c.Messages {
		b = slices.Clone(b)
		for _, u := range c.UnstableBytes {
			if u[0] == i {
				b[u[1]] = 0
			}
		}
		for at := 16; at+4 <= len(b); {
			size := 8 * int(binary.LittleEndian.Uint16(b[at:]))
			kind := binary.LittleEndian.Uint16(b[at+2:])
			if size == 40 && (kind == 3 || kind == 4) {
				b = slices.Delete(b, at+32, at+40)
				b[at] = 4
				size = 32
				binary.LittleEndian.PutUint16(b[4:], uint16(len(b)/8))
			}
			if size == 0 {
				break
			}
			at += size
		}
		out[i] = hex.EncodeToString(b)
	}
	return out
}

// errno parses a Linux name or a number.
func errno(t *testing.T, text string) syscall.Errno {
	if n, err := strconv.Atoi(text); err == nil {
		return syscall.Errno(n)
	}
	for e := syscall.Errno(1); e < 256; e++ {
		if unix.ErrnoName(e) == text {
			return e
		}
	}
	switch text {
	case "EPFNOSUPPORT":
		return syscall.EPFNOSUPPORT
	case "EOPNOTSUPP":
		return syscall.EOPNOTSUPP
	case "EWOULDBLOCK":
		return syscall.EAGAIN
	}
	t.Fatalf("unknown errno %q", text)
	return 0
}

// A difference is a recording with another result than that of the classic tool.
type difference struct {
	*recorded.Command
	want     verdict
	printed  string // the recorded output of the classic tool
	got      clitest.Result
	accepted bool
	asked    bool   // the stack received a request
	what     string // first different message, if both verdicts are the same
}

// refused reports whether only the applet refuses the command, with one of these texts.
func (d *difference) refused(texts ...string) bool {
	return d.alone() && slices.ContainsFunc(texts, func(s string) bool {
		return strings.Contains(d.got.Err, s)
	})
}

// alone reports whether the applet alone refuses.
func (d *difference) alone() bool { return !d.accepted && d.want.accepted }

// wrong reports whether the applet alone refuses a text, of one of the kinds.
func (d *difference) wrong(kinds ...syntax.Kind) bool {
	return d.alone() && syntax.Is(d.got.Error, kinds...)
}

// fault reports whether the applet alone refuses what has a fault.
func (d *difference) fault(f klips.Fault) bool {
	var oe *klips.OpError
	return d.alone() && errors.As(d.got.Error, &oe) && oe.Fault == f
}

// failed reports whether the applet alone fails, with one of these causes.
func (d *difference) failed(causes ...error) bool {
	return d.alone() && slices.ContainsFunc(causes, func(c error) bool { return errors.Is(d.got.Error, c) })
}

// taken reports whether only the applet accepts the command.
func (d *difference) taken() bool { return d.accepted && !d.want.accepted }

// arg reports whether one of the arguments contains one of these parts.
func (d *difference) arg(parts ...string) bool {
	return slices.ContainsFunc(d.Args, func(a string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(strings.ToLower(a), p) })
	})
}

// A golden holds what the recordings need for a replay.
type golden struct {
	machine *machine
	proc    string // directory with the sets of tables
}

// replay runs a recorded command line and compares the results; nil means no
// difference.
func (g *golden) replay(t *testing.T, c *recorded.Command, want verdict) *difference {
	k := newTape(t, c)
	w := clitest.World{
		Wrap:    func(*clitest.Stack) klips.Stack { return g.machine.stack(k, filepath.Join(g.proc, c.Set())) },
		Environ: c.Env, Resolver: clitest.Names,
	}
	got := clitest.Run(apps[c.Tool](), w, c.Args...)
	messages, ioctls := k.asked()
	d := &difference{Command: c, want: want, printed: printed(t, c, g.proc), got: got, accepted: got.Status == 0, asked: len(messages)+len(ioctls) > 0}
	d.checkRules(t)
	if d.accepted != want.accepted {
		return d
	}
	if d.accepted {
		if d.what = compare(messages, want.messages); d.what == "" {
			d.what = compare(ioctls, want.ioctls)
		}
		if d.what == "" && c.Exit == 0 {
			d.what = d.comparePrinted()
		}
	}
	if d.what == "" {
		return nil
	}
	return d
}

// printed returns the standard output of a classic tool, without the lines of --debug.
func printed(t *testing.T, c *recorded.Command, proc string) string {
	p := c.Printed
	name := c.Tool
	if l := c.Option("--label"); l != "" {
		name += " --label " + l
	}
	var out strings.Builder
	if p.Table {
		b, err := os.ReadFile(c.Table(proc))
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	if l := p.Lifetime; l != nil {
		fmt.Fprintf(&out, "%s: lifetime_current=%d(allocations)/%d(bytes)/%d(addtime)/%d(usetime)\n", name, l[0], l[1], l[2], l[3])
	}
	if r := p.SARef; r != nil {
		fmt.Fprintf(&out, "%s: saref=%d/%d\n", name, r[0], r[1])
	}
	if p.Done {
		fmt.Fprintf(&out, "%s: exited normally\n", name)
	}
	return out.String()
}

// comparePrinted compares the output: tables, and the values of a requested SA. If the
// kernel's answer has no values, the applet prints zeros and the classic tools print
// nothing.
func (d *difference) comparePrinted() string {
	got := strings.ReplaceAll(d.got.Out, "ipsec "+d.Tool, d.Tool)
	if got == d.printed || d.asked && d.printed == "" || strings.HasSuffix(got, " 1.2.3\n") {
		return ""
	}
	return fmt.Sprintf("printed\n%q, want\n%q", got, d.printed)
}

// checkRules checks the rules for all command lines: an error is one line that begins
// with the program's name, and a wrong command line sends no request to the stack.
func (d *difference) checkRules(t *testing.T) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(d.got.Err, "\n"), "\n")
	for _, line := range lines {
		if line == "" && d.accepted || strings.HasPrefix(line, "ipsec "+d.Tool) {
			continue
		}
		t.Errorf("%s: %s %q: line %q on standard error has no prefix", d.ID, d.Tool, d.Args, line)
	}
	last := lines[len(lines)-1]
	switch {
	case !d.accepted && (last == "" || strings.HasSuffix(last, ".")):
		t.Errorf("%s: %s %q: status %d with the message %q", d.ID, d.Tool, d.Args, d.got.Status, last)
	case d.got.Status == cli.ExitUsage && d.got.Opened:
		t.Errorf("%s: %s %q: refused (%s) but the stack was opened", d.ID, d.Tool, d.Args, last)
	}
}

func compare(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return "sent\n  " + g + ", want\n  " + w
		}
	}
	return ""
}

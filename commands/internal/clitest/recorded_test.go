package clitest_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
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
)

// apps are the applets that were recorded.
var apps = map[string]func() *cli.App{
	"spi": spi.App, "spigrp": spigrp.App, "eroute": eroute.App, "tncfg": tncfg.App, "klipsdebug": klipsdebug.App,
}

// A recording is one run of a classic tool.
type recording struct {
	ID       string            `json:"id"`
	Impl     string            `json:"impl"`
	Tool     string            `json:"tool"`
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env"`
	Exit     int               `json:"exit"`
	Crash    bool              `json:"crash"`
	Stdout   string            `json:"stdout"`
	UB       bool              `json:"ub,omitempty"` // undefined, not to be imitated
	See      []string          `json:"see,omitempty"`
	Messages []string          `json:"messages"`
	Ioctls   []struct {
		Name string `json:"ifr_name"`
		Data string `json:"data_hex"`
	} `json:"ioctls"`
	// UnstableBytes are pairs of a message and an offset in it.
	UnstableBytes [][2]int `json:"unstable_bytes,omitempty"`
	Note          string   `json:"note"`
}

// A verdict is what a recording says the applet has to do.
type verdict struct {
	impl     string // the generation that it is from
	accepted bool
	messages []string
	ioctls   []string
}

// ioctlTexts are the device calls in the form of clitest.Stack.
func (r *recording) ioctlTexts(t *testing.T) []string {
	var out []string
	for _, c := range r.Ioctls {
		data, err := hex.DecodeString(c.Data)
		if err != nil || len(data) < 16 {
			t.Fatalf("%s: ioctl data %q", r.ID, c.Data)
		}
		physical, _, _ := strings.Cut(string(data[4:16]), "\x00")
		switch uint32(data[0]) | uint32(data[1])<<8 {
		case 0x89f0:
			out = append(out, "attach "+c.Name+" "+physical)
		case 0x89f1:
			out = append(out, "detach "+c.Name)
		case 0x89f2:
			out = append(out, "clear")
		default:
			t.Fatalf("%s: ioctl %x", r.ID, data)
		}
	}
	return out
}

// messageTexts are the messages with two things of the older generations taken
// away: bytes that were not initialised become zero, and lifetime extensions of
// 40 bytes lose their last 8 (packets, always 0), as KLIPS kernels since Linux
// 2.6 want them.
func (r *recording) messageTexts(t *testing.T) []string {
	out := make([]string, len(r.Messages))
	for i, text := range r.Messages {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) < 16 {
			t.Fatalf("%s: message %q", r.ID, text)
		}
		for _, u := range r.UnstableBytes {
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

func readRecordings(t *testing.T, file string) []recording {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Skipf("the recordings are not here: %v", err)
	}
	defer f.Close()
	var out []recording
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r recording
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, r)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// errno reads a Linux name or a number.
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

// A difference is a recording that does not come out as the classic tool did.
type difference struct {
	*recording
	want     verdict
	got      clitest.Result
	accepted bool
	asked    bool   // the stack was asked for something
	what     string // first message that differs, if both verdicts are the same
}

// refused reports whether the applet alone refuses, with one of these texts.
func (d *difference) refused(texts ...string) bool {
	return !d.accepted && d.want.accepted && slices.ContainsFunc(texts, func(s string) bool {
		return strings.Contains(d.got.Err, s)
	})
}

// taken reports whether the applet alone accepts.
func (d *difference) taken() bool { return d.accepted && !d.want.accepted }

// arg reports whether one of the arguments has one of these parts.
func (d *difference) arg(parts ...string) bool {
	return slices.ContainsFunc(d.Args, func(a string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(strings.ToLower(a), p) })
	})
}

// A golden is what recordings are replayed on.
type golden struct {
	machine *machine
	proc    string // directory with the sets of tables
}

// replay runs a recording's command line and compares what comes of it; nil
// means that nothing differs.
func (g *golden) replay(t *testing.T, r *recording, want verdict) *difference {
	k := newTape(t, r)
	w := clitest.World{
		Wrap:    func(klips.Stack) klips.Stack { return g.machine.stack(k, filepath.Join(g.proc, r.Env["KLIPS_PROC"])) },
		Environ: r.Env, Resolver: clitest.Names,
	}
	got := clitest.Run(apps[r.Tool](), w, r.Args...)
	d := &difference{recording: r, want: want, got: got, accepted: got.Status == 0, asked: len(k.messages)+len(k.ioctls) > 0}
	d.checkRules(t)
	if d.accepted != want.accepted {
		return d
	}
	if d.accepted {
		if d.what = compare(k.messages, want.messages); d.what == "" {
			d.what = compare(k.ioctls, want.ioctls)
		}
		if d.what == "" && r.Exit == 0 {
			d.what = d.comparePrinted()
		}
	}
	if d.what == "" {
		return nil
	}
	return d
}

// comparePrinted compares what was printed: tables, and what an SA that was
// asked for has. Where a kernel's answer has no values, zeros are printed, and
// nothing by the classic tools; these print what --debug has to say to standard
// output, before and after the rest.
func (d *difference) comparePrinted() string {
	got := strings.ReplaceAll(d.got.Out, "ipsec "+d.Tool, d.Tool)
	debug := slices.ContainsFunc(d.Args, func(a string) bool { return len(a) > 2 && strings.HasPrefix("--debug", a) })
	nothing := d.asked && (d.Stdout == "" || debug)
	if got == d.Stdout || nothing || debug && strings.Contains(d.Stdout, got) || strings.HasSuffix(got, " 1.2.3\n") {
		return ""
	}
	return fmt.Sprintf("printed\n%q, want\n%q", got, d.Stdout)
}

// checkRules checks what holds for every command line: errors are one line that
// begins with the program's name, and a wrong command line asks nothing of the
// stack.
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

// repoRoot is the directory that holds go.mod.
func repoRoot(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above this directory")
		}
		dir = up
	}
}

package batch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

func itoa(n int) string { return strconv.Itoa(n) }

const (
	encKey  = "0x0102030405060708090a0b0c0d0e0f10"
	authKey = "0x1112131415161718191a1b1c1d1e1f2021222324"
	espSA   = "spi --said esp0x101@192.0.2.2 --src 192.0.2.1 --esp aes128-sha1 --enckey " + encKey + " --authkey " + authKey + "\n"
	tunSA   = "ipsec spi --said tun0x100@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2\n"
	group   = "ipsec_spigrp --said tun0x100@192.0.2.2 esp0x101@192.0.2.2\n"
	route   = "eroute --add --src 10.0.1.0/24 --dst 10.0.2.0/24 --said tun0x100@192.0.2.2\n"
	bad     = "spi --nosuch " + encKey + "\n"
)

// runFile runs a text as a file, and runPipe runs it from standard input.
func runFile(t *testing.T, s *clitest.Stack, text string, opts ...string) clitest.Result {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return clitest.Run(app(), clitest.World{Stack: s}, append(opts, "f")...)
}

func runPipe(_ *testing.T, s *clitest.Stack, text string, opts ...string) clitest.Result {
	return clitest.Run(app(), clitest.World{Stack: s, In: strings.NewReader(text)}, append(opts, "-")...)
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name     string
		text     string
		opts     string
		refuse   int // number of the message that the stack refuses, from 1; 0: none
		pipe     bool
		messages int // messages that reach the stack
		status   int
		err      string
	}{
		{"all four", "# a tunnel\n" + tunSA + espSA + group + route, "", 0, false, 4, 0, ""},
		{"from a pipe", tunSA + espSA + group + route, "", 0, true, 4, 0, ""},
		{"empty", "\n#\n", "", 0, false, 0, 0, ""},
		{"a wrong line refuses a file", tunSA + espSA + "\n" + bad + group, "", 0, false, 0, 2,
			"ipsec batch: f:4: ipsec spi: unknown option --nosuch (see ipsec spi --help)\nipsec batch: note: nothing was done\n"},
		{"a wrong line refuses a pipe", tunSA + espSA + "\n" + bad + group, "", 0, true, 0, 2,
			"ipsec batch: standard input:4: ipsec spi: unknown option --nosuch (see ipsec spi --help)\nipsec batch: note: nothing was done\n"},
		{"a wrong line refuses its part of a pipe", tunSA + "commit\n" + espSA + "\n" + bad + group, "", 0, true, 1, 2,
			"ipsec batch: standard input:5: ipsec spi: unknown option --nosuch (see ipsec spi --help)\nipsec batch: note: nothing of this part was done; 1 command was done before\n"},
		{"commit in a file", tunSA + "commit\n" + espSA, "", 0, false, 0, 2,
			"ipsec batch: f:2: commit ends a part of standard input; a file is carried out as a whole\nipsec batch: note: nothing was done\n"},
		{"keep going", tunSA + bad + espSA + "'\n" + group, "--keep-going", 0, false, 3, 1,
			"ipsec batch: f:2: ipsec spi: unknown option --nosuch (see ipsec spi --help)\n" +
				"ipsec batch: f:4: a single quote is not closed on its line\n" +
				"ipsec batch: note: 2 of 5 commands failed\n"},
		{"dry run", tunSA + espSA + group + route, "--dry-run", 0, false, 0, 0, ""},
		{"dry run of a pipe", tunSA + "version\nspi --help\n", "--dry-run", 0, true, 0, 0, ""},
		{"dry run, wrong", tunSA + bad + bad, "--dry-run", 0, false, 0, 2,
			"ipsec batch: f:2: ipsec spi: unknown option --nosuch (see ipsec spi --help)\n"},
		{"dry run, all that is wrong", bad + tunSA + bad, "--dry-run --keep-going", 0, false, 0, 1,
			"ipsec batch: f:1: ipsec spi: unknown option --nosuch (see ipsec spi --help)\n" +
				"ipsec batch: f:3: ipsec spi: unknown option --nosuch (see ipsec spi --help)\n" +
				"ipsec batch: note: 2 of 3 commands would fail\n"},
		{"the stack refuses", tunSA + espSA + group + route, "", 2, false, 3, 1,
			"ipsec batch: f:2: ipsec spi: esp0x101@192.0.2.2: an SA with this SAID exists; remove it first with ipsec spi --del, or take another SPI\n" +
				"ipsec batch: note: nothing was done\n"},
		{"the stack refuses the first", tunSA + espSA, "", 1, true, 1, 1,
			"ipsec batch: standard input:1: ipsec spi: tun0x100@192.0.2.2: an SA with this SAID exists; remove it first with ipsec spi --del, or take another SPI\n" +
				"ipsec batch: note: nothing was done\n"},
		{"the stack refuses, keep going", tunSA + espSA + group + route, "--keep-going", 2, false, 4, 1,
			"ipsec batch: f:2: ipsec spi: esp0x101@192.0.2.2: an SA with this SAID exists; remove it first with ipsec spi --del, or take another SPI\n" +
				"ipsec batch: note: 1 of 4 commands failed\n"},
		{"labels", "spi --label here --nosuch\n", "--label all", 0, false, 0, 2,
			"ipsec batch --label all: f:1: ipsec spi --label here: unknown option --nosuch (see ipsec spi --help)\nipsec batch --label all: note: nothing was done\n"},
		{"options that come twice", "spi --src 192.0.2.1 --said tun0x100@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2 --debug\n", "--dry-run", 0, false, 0, 2,
			"ipsec batch: f:1: ipsec spi: --src is given twice: 192.0.2.1 and 192.0.2.1 (see ipsec spi --help)\n"},
		{"debug", tunSA[:len(tunSA)-1] + " --debug\n", "", 0, false, 1, 0,
			"ipsec batch: f:1: ipsec spi: debug: stack klips\n" +
				"ipsec batch: f:1: ipsec spi: debug: make tun0x100@192.0.2.2 IPIP from 192.0.2.1, replay window 0, ESN false\n"},
		{"nothing to read keys from", strings.Replace(espSA, encKey, "@-", 1), "", 0, true, 0, 1,
			"ipsec batch: standard input:1: ipsec spi: --enckey @-: there is no standard input\nipsec batch: note: nothing was done\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &clitest.Stack{}
			if tt.refuse > 0 {
				s.SendErr, s.SendErrAt = syscall.EEXIST, tt.refuse
			}
			run := runFile
			if tt.pipe {
				run = runPipe
			}
			r := run(t, s, tt.text, strings.Fields(tt.opts)...)
			if r.Status != tt.status || r.Err != tt.err || r.Out != "" {
				t.Errorf("status %d, want %d\n got %s\nwant %s", r.Status, tt.status, r.Err, tt.err)
			}
			if len(s.Messages) != tt.messages {
				t.Errorf("%d messages to the stack, want %d", len(s.Messages), tt.messages)
			}
			if s.Closed > 1 || r.Opened != (s.Closed == 1) {
				t.Errorf("the stack was closed %d times, opened %v", s.Closed, r.Opened)
			}
			if strings.Contains(r.Err, "0102030405") {
				t.Error("there is a key in the messages")
			}
		})
	}
}

// TestNoSuchCommand checks the errors about lines that are not commands. They do not
// repeat words that can be keys.
func TestNoSuchCommand(t *testing.T) {
	const list = "; the commands are spi, spigrp, eroute, tncfg, klipsdebug, look, version and ranbits"
	for line, want := range map[string]string{
		"batch f":                   "batch cannot be run from a file" + list,
		"ipsec setup start":         "setup cannot be run from a file" + list,
		"ipsec_klipsd":              "klipsd cannot be run from a file" + list,
		"manual --up x":             "manual cannot be run from a file" + list,
		"pf_key --esp":              "pf_key cannot be run from a file" + list,
		"ipsec --stack xfrm spi":    "one stack serves the whole file; choose it in front: ipsec --stack NAME batch",
		"ipsec --stack=xfrm spi":    "one stack serves the whole file; choose it in front: ipsec --stack NAME batch",
		"ipsec":                     "no command ipsec" + list,
		"ipsec commit":              "commit ends a part of standard input; a file is carried out as a whole",
		"route add":                 "no command route" + list,
		"--enckey " + encKey:        "a line begins with the name of a command, not with an option; does the line before want a backslash at its end?",
		encKey:                      "a line begins with the name of a command" + list,
		"''":                        "a line begins with the name of a command" + list,
		"correcthorsebatterystaple": "a line begins with the name of a command" + list,
		"ipsec " + encKey:           "a line begins with the name of a command" + list,
		"ipsec ipsec_spi":           "no command ipsec_spi" + list,
		"ipsec ipsec spi --clear":   "no command ipsec" + list,
		`sp\i --clear | ipsec_spi`:  "ipsec spi: unexpected argument |; everything here is given with options (see ipsec spi --help)",
		"spi --clear " + encKey:     "ipsec spi: unexpected argument number 2 (34 characters, not shown: it may be part of a key); everything here is given with options (see ipsec spi --help)",
		"spi --clear && eroute":     "ipsec spi: unexpected argument &&; everything here is given with options (see ipsec spi --help)",
	} {
		s := &clitest.Stack{}
		r := runPipe(t, s, line+"\n", "--dry-run")
		if want := "ipsec batch: standard input:1: " + want + "\n"; r.Err != want || r.Status != cli.ExitUsage || s.Asked() {
			t.Errorf("%s: status %d\n got %swant %s", line, r.Status, r.Err, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"":            "FILE is missing (- is standard input)",
		"a b":         "2 arguments where one file is wanted; commands stand in the file",
		"--keep f -x": "unknown option -x",
	} {
		r := clitest.Run(app(), clitest.World{}, strings.Fields(line)...)
		if want := "ipsec batch: " + want + "\n"; r.Err != want || r.Status != cli.ExitUsage {
			t.Errorf("batch %s: status %d\n got %swant %s", line, r.Status, r.Err, want)
		}
	}
	dir := t.TempDir()
	for file, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory",
		dir:                        "is a directory",
	} {
		r := clitest.Run(app(), clitest.World{}, file)
		if !strings.Contains(r.Err, want) || r.Status != cli.ExitFailed {
			t.Errorf("batch %s: status %d, %s", file, r.Status, r.Err)
		}
	}
	if r := clitest.Run(app(), clitest.World{}, "--help"); !strings.Contains(r.Out, "--keep-going") || r.Status != 0 {
		t.Errorf("--help: status %d, %s", r.Status, r.Out)
	}
}

// TestNoStack: without a stack a file ends at once, also with --keep-going.
func TestNoStack(t *testing.T) {
	w := clitest.World{In: strings.NewReader("version\n" + tunSA + espSA), StackErr: errors.New("no stack")}
	r := clitest.Run(app(), w, "--keep-going", "-")
	want := "ipsec batch: standard input:2: ipsec spi: no stack\nipsec batch: note: stopped; 1 command was done before\n"
	if r.Status != cli.ExitFailed || r.Err != want || !strings.Contains(r.Out, "no stack: no stack\n") {
		t.Errorf("status %d\n got %swant %s", r.Status, r.Err, want)
	}
}

// A texts is a stack that has its tables as text.
type texts struct{ *clitest.Stack }

func (texts) Table(context.Context, string) ([]byte, error) { return []byte("as it is\n"), nil }

func (texts) Unread(context.Context, ...string) ([]klips.UnreadLine, error) { return nil, nil }

func TestListing(t *testing.T) {
	w := clitest.World{In: strings.NewReader("spi\neroute\nspi --help\n")}
	w.Wrap = func(s *clitest.Stack) klips.Stack { return serial.New(texts{s}) }
	r := clitest.Run(app(), w, "-")
	if !strings.HasPrefix(r.Out, "as it is\nas it is\nipsec spi: make, remove") || r.Status != 0 {
		t.Errorf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
}

// interrupting sends a signal to this process while it makes an SA.
type interrupting struct{ *clitest.Stack }

func (s interrupting) AddSA(ctx context.Context, spec *klips.SASpec) error {
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	return s.Stack.AddSA(ctx, spec)
}

// TestInterrupt: the running command is completed, and the next one is not read.
func TestInterrupt(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	go io.WriteString(out, tunSA)
	s := &clitest.Stack{}
	r := clitest.Run(app(), clitest.World{In: in, Stack: s, Wrap: func(s *clitest.Stack) klips.Stack { return serial.New(interrupting{s}) }}, "--keep-going", "-")
	if want := "ipsec batch: interrupted; 1 command was done\n"; r.Err != want || r.Status != cli.ExitFailed || len(s.Messages) != 1 || s.Closed != 1 {
		t.Errorf("status %d, %d messages, closed %d, %q, want %q", r.Status, len(s.Messages), s.Closed, r.Err, want)
	}
}

// TestProgress checks when the line on the terminal is visible.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, total: 20}
	now := time.Now()
	for i := range 20 {
		p.step(i, now.Add(time.Duration(i)*50*time.Millisecond)) // one second in total
	}
	o := output{w: &b, progress: p, prefix: func() string { return "f:1: " }}
	io.WriteString(&o, "a\nb")
	io.WriteString(&o, "c\n")
	p.hide()
	const want = "\r0 of 20\r4 of 20\r8 of 20\r12 of 20\r16 of 20\r\x1b[Kf:1: a\nf:1: bc\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

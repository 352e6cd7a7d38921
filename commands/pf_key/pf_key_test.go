package pf_key_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/pf_key"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A screen is an output that the test reads while the applet runs.
type screen struct {
	mu      sync.Mutex
	written sync.Cond // with mu, after each Write
	b       bytes.Buffer
}

func newScreen() *screen {
	s := new(screen)
	s.written.L = &s.mu
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.written.Broadcast()
	return s.b.Write(p)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// patience is the limit for expected events.
const patience = time.Minute

// wait returns when the screen has a text n times.
func (s *screen) wait(t *testing.T, what string, n int) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.written.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for strings.Count(s.b.String(), what) < n {
		if late {
			t.Fatalf("%q is not printed %d times:\n%s", what, n, &s.b)
		}
		s.written.Wait()
	}
}

// start runs the applet with a daemon.
func start(b *bench, out io.Writer, args ...string) (done <-chan error) {
	c := make(chan error, 1)
	env := &cli.Env{
		Name: "P", Out: out, Err: io.Discard, Version: func() string { return "1" },
		Getenv: func(string) string { return "" },
		Stack:  func(context.Context) (klips.Stack, error) { return b.dial(), nil },
	}
	go func() { c <- pf_key.App().Run(context.Background(), env, args) }()
	return c
}

var numbers = regexp.MustCompile(`(seq|pid)=\d+`)

func TestListens(t *testing.T) {
	b := newBench(t)
	out := newScreen()
	done := start(b, out, "--ipip", "--ipcomp")
	out.wait(t, "\nversion=2 type=7 ", 2)
	b.run([]string{"spi", "--said", "tun0x1001@10.9.0.2", "--ip4", "--src", "10.9.0.1", "--dst", "10.9.0.2"})
	out.wait(t, "\nversion=2 type=3 ", 1)
	if err := b.ask.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("when the daemon ends: %v", err)
	}
	want := `
pfkey v2 msg. type=7(register) seq=N len=7 pid=N errno=0 satype=9(IPIP)
version=2 type=7 errno=0 satype=9 len=7 seq=N pid=N {ext=15 len=5 bytes=0x00000000040080008000000003002000800000000200800020000000010020002000 0000 } 

pfkey v2 msg. type=7(register) seq=N len=4 pid=N errno=0 satype=10(COMP)
version=2 type=7 errno=0 satype=10 len=4 seq=N pid=N {ext=15 len=2 bytes=0x000000000200010001000000 } 

pfkey v2 msg. type=3(add) seq=N len=13 pid=N errno=0 satype=9(IPIP)
version=2 type=3 errno=0 satype=9 len=13 seq=N pid=N {ext=1 len=3 spi=01100000 replay=0 state=1 auth=0 encrypt=0 flags=00000000 ref=00000000}{ext=5 len=3 proto=0 prefixlen=0 addr=0x020000000a0900010000000000000000 } {ext=6 len=3 proto=0 prefixlen=0 addr=0x020000000a0900020000000000000000 } {ext=32 len=2 bytes=0x010000000000000000000000 } 
P: exited normally
`
	want = strings.ReplaceAll(want, "2000 0000 }", "20000000 }")
	if d := cmp.Diff(want, numbers.ReplaceAllString(out.text(), "$1=N")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRegistersForAll(t *testing.T) {
	b := newBench(t)
	out := newScreen()
	done := start(b, out)
	out.wait(t, "\nversion=2 type=7 ", 4)
	var order []string
	for _, m := range regexp.MustCompile(`satype=\d+\((\w+)\)`).FindAllStringSubmatch(out.text(), -1) {
		order = append(order, m[1])
	}
	if d := cmp.Diff([]string{"AH", "ESP", "IPIP", "COMP"}, order); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !strings.HasSuffix(out.text(), "\nP: Exiting on signal 15\n") {
		t.Errorf("SIGTERM: %v, %q", err, out.text())
	}
}

// TestOutputFails: a full disk ends the applet.
func TestOutputFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		skip.Without(t, skip.DevFull, err)
	}
	defer full.Close()
	if err := <-start(newBench(t), full); err == nil || !strings.HasPrefix(err.Error(), "standard output: ") {
		t.Errorf("with a full disk: %v", err)
	}
}

func TestRefused(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct {
		line   string
		status int
		want   string
	}{
		{"--esp=1", cli.ExitUsage, "option --esp takes no value"},
		{"--i", cli.ExitUsage, "option --i can mean --ipip, --ipcomp; write more of its name"},
		{"-x", cli.ExitUsage, "unknown option -x"},
		{"--daemon", cli.ExitUsage, "option --daemon needs a value (FILE)"},
		{"--daemon=", cli.ExitUsage, "--daemon needs the name of a file"},
		{"--daemon a --dumpfile b", cli.ExitUsage, "--daemon and --dumpfile: a file is printed at once; give one"},
		{"-e x", cli.ExitUsage, "--encodefile: no version of this command could encode messages"},
		{"esp", cli.ExitUsage, "unexpected argument esp; everything here is given with options"},
		{"--ready-fd 2", cli.ExitUsage, "--ready-fd 2: not a file descriptor above 2"},
		{"--dumpfile " + missing, cli.ExitFailed, "open " + missing + ": no such file or directory"},
		{"--ah", cli.ExitFailed, "stack klips has no PF_KEY messages to listen to; choose another one with --stack"},
	} {
		r := clitest.Run(pf_key.App(), clitest.World{}, strings.Fields(tt.line)...)
		if want := "ipsec pf_key: " + tt.want + "\n"; r.Err != want || r.Status != tt.status || r.Out != "" {
			t.Errorf("pf_key %s: status %d, standard output %q\n got %swant %s", tt.line, r.Status, r.Out, r.Err, want)
		}
	}
}

func TestDumpfile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "messages")
	if err := os.WriteFile(name, []byte("\x02"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"--dumpfile", "-d"} {
		r := clitest.Run(pf_key.App(), clitest.World{}, option, name)
		want := "ipsec pf_key: runt packet of size: 1 (<16)\nipsec pf_key: exited normally\n"
		if r.Status != 0 || r.Out != want || r.Err != "" || r.Opened {
			t.Errorf("%s: status %d, %q, %q", option, r.Status, r.Out, r.Err)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, option := range []string{"--help", "-h"} {
		r := clitest.Run(pf_key.App(), clitest.World{}, option)
		if r.Status != 0 || r.Err != "" || r.Opened {
			t.Errorf("%s: status %d, %q", option, r.Status, r.Err)
		}
		for _, o := range pf_key.App().Options {
			if strings.Contains(r.Out, "--"+o.Name) == o.Hidden {
				t.Errorf("--%s is hidden: %v, usage:\n%s", o.Name, o.Hidden, r.Out)
			}
		}
	}
}

package redraw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// atOnce is a clock whose intervals are over at once; it counts them.
func atOnce(n *int) func(time.Duration) <-chan time.Time {
	return func(time.Duration) <-chan time.Time {
		*n++
		c := make(chan time.Time, 1)
		c <- time.Time{}
		return c
	}
}

// numbers draws the numbers 1, 2, 3, …; fails has the errors of some of them.
func numbers(fails map[int]error) Draw {
	n := 0
	return func(_ context.Context, w io.Writer, size Size) error {
		n++
		fmt.Fprintf(w, "%d %v\n", n, size)
		return fails[n]
	}
}

// TestPiped: without a terminal the texts follow each other, without control sequences.
func TestPiped(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		o     Options
		fails map[int]error
		err   error
		waits int
		out   string
		note  string
	}{
		"one":         {Options{Count: 1}, nil, nil, 0, "1 {0 0}\n", ""},
		"three":       {Options{Count: 3}, nil, nil, 2, "1 {0 0}\n\n2 {0 0}\n\n3 {0 0}\n", ""},
		"wait":        {Options{Count: 2, WaitFirst: true}, nil, nil, 2, "1 {0 0}\n\n2 {0 0}\n", ""},
		"first fails": {Options{Count: 2}, map[int]error{1: broken}, broken, 0, "", ""},
		"later fails": {Options{Count: 3}, map[int]error{2: broken}, nil, 2, "1 {0 0}\n\n3 {0 0}\n", "ipsec x: note: broken\n"},
	} {
		var out, errs bytes.Buffer
		waits := 0
		c.o.After = atOnce(&waits)
		err := Watch(t.Context(), &cli.Env{Name: "ipsec x", Out: &out, Err: &errs}, c.o, numbers(c.fails))
		if err != c.err || out.String() != c.out || errs.String() != c.note || waits != c.waits {
			t.Errorf("%s: %v, printed %q, %q, waited %d times, want %v, %q, %q, %d", name, err, &out, &errs, waits, c.err, c.out, c.note, c.waits)
		}
	}
}

// TestOutputError: when nobody reads any more, Watch ends.
func TestOutputError(t *testing.T) {
	r, w := io.Pipe()
	r.CloseWithError(syscall.EPIPE)
	waits := 0
	err := Watch(t.Context(), &cli.Env{Out: w}, Options{After: atOnce(&waits)}, numbers(nil))
	if !errors.Is(err, syscall.EPIPE) || !strings.HasPrefix(err.Error(), "standard output: ") || waits > 0 {
		t.Errorf("%v after %d intervals", err, waits)
	}
}

// TestSignal: a signal ends Watch without an error.
func TestSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		err := Watch(t.Context(), &cli.Env{Out: io.Discard}, Options{After: func(time.Duration) <-chan time.Time {
			if err := unix.Kill(os.Getpid(), sig); err != nil {
				t.Error(err)
			}
			return nil
		}}, numbers(nil))
		if err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
}

// openPTY returns both ends of a pseudo-terminal.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		skip.Without(t, skip.PTY, err)
	}
	t.Cleanup(func() { master.Close() })
	err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		skip.Without(t, skip.PTY, err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestTerminal: on a terminal each text takes the place of the one before and fits into it.
// The key q ends Watch, and the terminal is as before.
func TestTerminal(t *testing.T) {
	master, slave := openPTY(t)
	setSize := func(rows, columns uint16) {
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
			t.Fatal(err)
		}
	}
	setSize(4, 10)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	n, done := 0, make(chan error, 1)
	go func() {
		done <- Watch(context.Background(), &cli.Env{In: slave, Out: slave}, Options{
			WaitFirst: true, // not on a terminal
			After:     func(time.Duration) <-chan time.Time { return nil },
		}, func(_ context.Context, w io.Writer, size Size) error {
			n++
			if n == 2 {
				return errors.New("no\x1bstack")
			}
			fmt.Fprintf(w, "%d %v\x1b[2J\n0123456789abc\nline 3\nline 4\nline 5\n", n, size)
			return nil
		})
	}()
	// The screen gets this after each event; the terminal turns \n into \r\n.
	for _, c := range []struct {
		event func()
		want  string
	}{
		{func() {}, `^[[H1 {4 10}\x|` + `0123456789|` + `line 3|^[[J`},
		{func() { kill(t, syscall.SIGWINCH) }, `^[[Hno\x1bstac|^[[J`},
		{func() { setSize(3, 20); kill(t, syscall.SIGCONT) }, `^[[H3 {3 20}\x1b[2J|0123456789abc|^[[J`},
	} {
		c.event()
		want := strings.ReplaceAll(strings.ReplaceAll(c.want, "|", "\x1b[K\r\r\n"), "^[", "\x1b")
		got := make([]byte, len(want))
		if _, err := io.ReadFull(master, got); err != nil || string(got) != want {
			t.Fatalf("%v, the screen gets %q, want %q", err, got, want)
		}
	}
	if _, err := master.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("%v, the terminal is %+v, and was %+v", err, after, before)
	}
}

func kill(t *testing.T, sig syscall.Signal) {
	if err := unix.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
}

func TestParseInterval(t *testing.T) {
	for text, want := range map[string]time.Duration{"1": time.Second, "0.1": 100 * time.Millisecond, "2.5": 2500 * time.Millisecond, "86400": 24 * time.Hour} {
		if got, err := ParseInterval("--watch", text); err != nil || got != want {
			t.Errorf("%q = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "0.01", "-1", "86401", "1m", "1s", "1e3", "x", "1.2.3", "٣"} {
		got, err := ParseInterval("--watch", text)
		var usage *cli.UsageError
		if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), "--watch ") {
			t.Errorf("%q = %v, %v, want a UsageError", text, got, err)
		}
	}
}

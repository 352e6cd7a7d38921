package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/klips"
)

// stack is a stack that has only a name.
type stack struct {
	klips.Stack
	closed int
}

func (*stack) Info() klips.Info { return klips.Info{Name: "test"} }
func (s *stack) Close() error   { s.closed++; return nil }

// table is the options of an applet that takes a value and a flag.
func table() []getopt.Option {
	return append([]getopt.Option{{Name: "src", Arg: "ADDR", Help: "the source"}, {Name: "clear", Help: "remove all"}}, CommonOptions()...)
}

func app() *App {
	return &App{
		Name: "x", Short: "do x", Synopsis: []string{"--src ADDR", ""}, Options: table(),
		Notes: func() string { return "Notes.\n" },
	}
}

// newEnv returns an environment whose outputs are kept.
func newEnv() (env *Env, out, errs *bytes.Buffer) {
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	return &Env{Name: "ipsec x", Out: out, Err: errs, Version: func() string { return "1.2" }}, out, errs
}

func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "more")
	if err := os.WriteFile(file, []byte("# arguments\n--src 192.0.2.7\n--debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused by the applet")
	for _, c := range []struct {
		args     string
		takes    bool
		want     Common
		got      []string // options that the applet receives
		usage    string   // a part of the message for a wrong command line
		is       error
		operands []string
	}{
		{args: "", want: Common{}},
		{args: "--src 192.0.2.1 --clear", got: []string{"src=192.0.2.1", "clear="}},
		{args: "--debug --label mine --src a", want: Common{Debug: true, Label: "mine"}, got: []string{"src=a"}},
		{args: "--sr a --cl", got: []string{"src=a", "clear="}},
		{args: "--src=a", got: []string{"src=a"}},
		{args: "--help --nosuch", want: Common{Help: true}},
		{args: "--version --src", want: Common{Version: true}},
		{args: "--src a --help --src b", want: Common{Help: true}, got: []string{"src=a"}},
		{args: "--optionsfrom " + file + " --clear", want: Common{Debug: true}, got: []string{"src=192.0.2.7", "clear="}},
		{args: "--nosuch", usage: "unknown option --nosuch"},
		{args: "--src", usage: "--src"},
		{args: "--clear=1", usage: "--clear", want: Common{}},
		{args: "one", usage: "unexpected argument"},
		{args: "one --clear two", takes: true, want: Common{TakesOperands: true}, got: []string{"clear="}, operands: []string{"one", "two"}},
		{args: "-- --clear", takes: true, want: Common{TakesOperands: true}, operands: []string{"--clear"}},
		{args: "--src refuse --clear", got: []string{"src=refuse"}, is: refused},
		{args: "--optionsfrom " + file + "none", is: os.ErrNotExist},
	} {
		got := Common{TakesOperands: c.takes}
		var given []string
		err := got.Parse(table(), strings.Fields(c.args), 0, func(name, value string) error {
			given = append(given, name+"="+value)
			if value == "refuse" {
				return refused
			}
			return nil
		})
		var usage *UsageError
		switch {
		case c.usage != "":
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.usage) {
				t.Errorf("%s: %v, want a UsageError with %q", c.args, err, c.usage)
			}
			continue
		case !errors.Is(err, c.is):
			t.Errorf("%s: %v, want %v", c.args, err, c.is)
			continue
		case errors.As(err, &usage):
			t.Errorf("%s: %v is a UsageError; the command line is right", c.args, err)
		}
		if !slices.Equal(given, c.got) || !slices.Equal(got.Operands, c.operands) {
			t.Errorf("%s: the applet gets %q and the operands %q, want %q and %q", c.args, given, got.Operands, c.got, c.operands)
		}
		if c.is == nil && (got.Debug != c.want.Debug || got.Label != c.want.Label || got.Help != c.want.Help || got.Version != c.want.Version) {
			t.Errorf("%s: %+v, want %+v", c.args, got, c.want)
		}
	}
}

// TestParseKey: a key in a wrong place is not repeated in any form.
func TestParseKey(t *testing.T) {
	for _, key := range []string{"0x0123456789abcdef0123456789abcdef", "0sASNFZ4mrze8BI0VniavN7w==", "0tcorrecthorsebattery"} {
		var c Common
		err := c.Parse(table(), []string{"--clear", key}, 0, func(string, string) error { return nil })
		if err == nil || strings.Contains(err.Error(), key[2:10]) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestCommand(t *testing.T) {
	wrong := Usagef("wrong")
	for _, c := range []struct {
		name   string
		common Common
		err    error
		runs   bool
		prefix string
		out    []string // parts of the output
	}{
		{"nothing", Common{}, nil, true, "ipsec x", []string{"done\n"}},
		{"label", Common{Label: "mine"}, nil, true, "ipsec x --label mine", []string{"done\n"}},
		{"a label of two lines", Common{Label: "a\nb\x1b[1m"}, nil, true, "ipsec x --label a?b?[1m", []string{"done\n"}},
		{"an error", Common{Label: "mine"}, wrong, false, "ipsec x --label mine", nil},
		{"an error and help", Common{Help: true}, wrong, false, "ipsec x", nil},
		{"help", Common{Help: true, Label: "mine"}, nil, true, "ipsec x --label mine",
			[]string{"ipsec x: do x\n", "  ipsec x --src ADDR\n  ipsec x\n", "--src ADDR", "the source", "--optionsfrom FILE", "Notes.\n"}},
		{"version", Common{Version: true}, nil, true, "ipsec x", []string{"ipsec x 1.2\n"}},
	} {
		env, out, errs := newEnv()
		cmd, err := c.common.Command(env, app, c.err, Func(func(_ context.Context, env *Env) error {
			fmt.Fprintln(env.Out, "done")
			return nil
		}))
		if (cmd != nil) != c.runs || err != c.err || env.Name != c.prefix || errs.Len() > 0 {
			t.Errorf("%s: %v, %v with prefix %q, want %v, %v with %q; standard error %q", c.name, cmd, err, env.Name, c.runs, c.err, c.prefix, errs)
		}
		if cmd != nil {
			if err := cmd.Run(t.Context(), env); err != nil {
				t.Error(err)
			}
		}
		for _, part := range c.out {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%s: %q is missing in\n%s", c.name, part, out)
			}
		}
		if c.out == nil && out.Len() > 0 {
			t.Errorf("%s: prints %q", c.name, out)
		}
	}
}

// TestReader: a reader's stack is opened before it runs and closed after it. An error
// of opening is returned.
func TestReader(t *testing.T) {
	none := errors.New("no stack")
	for _, want := range []error{nil, none} {
		env, _, errs := newEnv()
		s := &stack{}
		env.Stack = func(context.Context) (klips.Stack, error) { return s, want }
		ran := false
		err := Reader(func(_ context.Context, env *Env, s klips.Stack) error {
			ran = true
			(&Common{Debug: true}).DebugStack(env, s)
			return nil
		}).Run(t.Context(), env)
		if err != want || ran != (want == nil) || ran && (s.closed != 1 || errs.String() != "ipsec x: debug: stack test\n") {
			t.Errorf("%v, ran %v, closed %d times, standard error %q", err, ran, s.closed, errs)
		}
	}
}

func TestNotes(t *testing.T) {
	env, out, errs := newEnv()
	(&Common{}).Debugf(env, "not %s", "this")
	(&Common{Debug: true}).Debugf(env, "%d SAs", 2)
	Notef(env, "100%% of %s", "it")
	if want := "ipsec x: debug: 2 SAs\nipsec x: note: 100% of it\n"; errs.String() != want || out.Len() > 0 {
		t.Errorf("standard error %q, want %q", errs, want)
	}
}

// failing is an output that accepts a number of bytes, like a disk that becomes full.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, f.err
	}
	f.left -= len(p)
	return len(p), nil
}

func TestPrint(t *testing.T) {
	full, own := errors.New("no space left"), errors.New("of the table")
	text := func(n int) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("x", n))
			return err
		}
	}
	for _, c := range []struct {
		name  string
		room  int
		write func(io.Writer) error
		want  error
	}{
		{"nothing", 0, text(0), nil},
		{"fits", 10, text(10), nil},
		{"full at the end", 9, text(10), full},
		{"full in between", 100, text(1 << 20), full},
		{"the writer fails", 10, func(io.Writer) error { return own }, own},
		{"an ignored error", 0, func(w io.Writer) error { fmt.Fprint(w, strings.Repeat("x", 1<<20)); return nil }, full},
	} {
		env, _, _ := newEnv()
		env.Out = &failing{c.room, full}
		err := Print(env, c.write)
		if !errors.Is(err, c.want) || err != nil && !strings.HasPrefix(err.Error(), "standard output: ") {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	env, _, _ := newEnv()
	env.Out = &failing{0, full}
	cmd, err := (&Common{Version: true}).Command(env, app, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(t.Context(), env); !errors.Is(err, full) {
		t.Errorf("--version on a full disk: %v", err)
	}
}

func TestGiven(t *testing.T) {
	var g Given
	if g.Has("src") {
		t.Error("the zero Given has an option")
	}
	for _, o := range [][2]string{{"src", "a"}, {"dst", ""}} {
		if err := g.Add(o[0], o[1]); err != nil {
			t.Errorf("Add(%s) = %v", o[0], err)
		}
	}
	if v, ok := g.Value("src"); v != "a" || !ok || !g.Has("dst") || g.Has("sr") {
		t.Errorf("src is %q, %v in %v", v, ok, g)
	}
	var usage *UsageError
	if err := g.Add("src", "b"); !errors.As(err, &usage) || !strings.Contains(err.Error(), "--src is given twice") {
		t.Errorf("a second time: %v", err)
	}
	if v, _ := g.Value("src"); v != "a" {
		t.Errorf("the second value is taken: %q", v)
	}
}

func TestMessage(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		text   string
		status int
	}{
		{"ipsec x", nil, "", ExitOK},
		{"ipsec x", errors.New("no such SA"), "ipsec x: no such SA", ExitFailed},
		{"ipsec x --label a", errors.New("no such SA"), "ipsec x --label a: no such SA", ExitFailed},
		{"ipsec x", Usagef("wrong %d", 1), "ipsec x: wrong 1 (see ipsec x --help)", ExitUsage},
		{"x --label a", Usagef("wrong"), "x --label a: wrong (see x --help)", ExitUsage},
		{"ipsec x", fmt.Errorf("conn a: %w", Usagef("wrong")), "ipsec x: conn a: wrong (see ipsec x --help)", ExitUsage},
		{"ipsec x", &ExitError{3}, "", 3},
		{"ipsec x", fmt.Errorf("already said: %w", &ExitError{1}), "", 1},
		{"ipsec x", errors.Join(errors.New("one"), errors.New("two")), "ipsec x: one; two", ExitFailed},
	} {
		text, status := Message(c.name, c.err)
		if d := cmp.Diff(c.text, text); d != "" || status != c.status {
			t.Errorf("%v: status %d, want %d (-want +got)\n%s", c.err, status, c.status, d)
		}
	}
}

package commands

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/stacks"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A result holds the outputs and effects of a run of the program.
type result struct {
	status   int
	out, err string
	opened   []string // names of requested stacks
}

// call runs the program with a stack that records its calls.
func call(environ map[string]string, args ...string) result {
	var r result
	var out, errOut bytes.Buffer
	p := &program{
		in: strings.NewReader(""), out: &out, err: &errOut,
		getenv: func(name string) string { return environ[name] },
		open: func(_ context.Context, c stacks.Config) (klips.Stack, error) {
			r.opened = append(r.opened, c.Stack)
			if c.Stack == "xfrm" {
				return nil, errors.New("stack xfrm:\nnot here")
			}
			return serial.New(new(clitest.Stack)), nil
		},
	}
	r.status = p.main(args)
	r.out, r.err = out.String(), errOut.String()
	return r
}

func TestDispatch(t *testing.T) {
	const sa = "tun0x113@192.0.2.1"
	for _, c := range []struct {
		name     string
		args     []string
		environ  map[string]string
		status   int
		out, err string   // parts of the outputs; empty: nothing was written
		opened   []string // nil: no stack was requested
	}{
		{"first argument", []string{"/usr/sbin/ipsec", "spigrp", "--said", sa}, nil, 0, "", "", []string{""}},
		{"prefixed link", []string{"/usr/sbin/ipsec_spigrp", "--said", sa}, nil, 0, "", "", []string{""}},
		{"plain link", []string{"./spigrp", "--said", sa}, nil, 0, "", "", []string{""}},
		{"any other name is the program", []string{"klips-ipsec", "spigrp", "--said", sa}, nil, 0, "", "", []string{""}},
		{"stack option", []string{"ipsec", "--stack", "user", "spigrp", "--said", sa}, nil, 0, "", "", []string{"user"}},
		{"stack option with =", []string{"ipsec", "--stack=klips", "spigrp", "--said", sa}, nil, 0, "", "", []string{"klips"}},
		{"stack from the environment", []string{"spigrp", "--said", sa}, map[string]string{"IPSEC_STACK": "user"}, 0, "", "", []string{"user"}},
		{"option beats environment", []string{"ipsec", "--stack", "klips", "spigrp", "--said", sa}, map[string]string{"IPSEC_STACK": "user"}, 0, "", "", []string{"klips"}},
		{"stack after a link is the applet's argument", []string{"spi", "--stack", "user"}, nil, 2, "", "spi: unknown option --stack", nil},
		{"unknown stack", []string{"ipsec", "--stack", "netkey", "spi"}, nil, 2, "", "ipsec: unknown stack netkey; want user, klips or xfrm", nil},
		{"stack without name", []string{"ipsec", "--stack"}, nil, 2, "", "ipsec: --stack needs a name", nil},
		{"stack alone lists the applets", []string{"ipsec", "--stack", "user"}, nil, 0, "Applets:", "", nil},
		{"stack refuses, in one line", []string{"ipsec", "--stack", "xfrm", "spigrp", "--said", sa}, nil, 1, "", "ipsec spigrp: stack xfrm:; not here\n", []string{"xfrm"}},
		{"nothing", []string{"ipsec"}, nil, 0, "  spigrp      group and ungroup", "", nil},
		{"no arguments at all", nil, nil, 0, "Applets:", "", nil},
		{"help", []string{"ipsec", "help"}, nil, 0, "  ranbits     print random", "", nil},
		{"--help", []string{"ipsec", "--help"}, nil, 0, "Applets:", "", nil},
		{"help of none", []string{"ipsec", "help", "spigroup"}, nil, 2, "", "ipsec help: no applet spigroup; did you mean spigrp? (see ipsec help --help)\n", nil},
		{"help of two", []string{"ipsec", "help", "spi", "eroute"}, nil, 2, "", "unexpected argument eroute", nil},
		{"names", []string{"ipsec", "help", "--names"}, nil, 0, "\nspigrp\neroute\n", "", nil},
		{"version option", []string{"ipsec", "--version"}, nil, 0, "ipsec ", "", nil},
		{"version applet", []string{"ipsec", "version"}, nil, 0, "stack klips: Openswan version: test\nchosen because it is the first of user, klips, xfrm", "", []string{""}},
		{"version of a named stack", []string{"ipsec", "--stack", "user", "version"}, nil, 0, "chosen because --stack", "", []string{"user"}},
		{"version without stack", []string{"ipsec", "--stack", "xfrm", "version"}, nil, 0, "\nno stack: stack xfrm:", "", []string{"xfrm"}},
		{"unknown applet", []string{"ipsec", "eruote"}, nil, 2, "", "ipsec: no applet eruote; did you mean eroute? (see ipsec --help)\n", nil},
		{"unknown stack in the environment", []string{"ipsec", "spi"}, map[string]string{"IPSEC_STACK": "netkey"}, 2, "", "ipsec spi: IPSEC_STACK: unknown stack netkey; want user, klips or xfrm", nil},
		{"a key for a stack", []string{"ipsec", "--stack", "0xfeedfacefeedface", "spi"}, nil, 2, "", "ipsec: unknown stack (18 characters, not shown: it may be a key); want", nil},
		{"swapped letters", []string{"ipsec", "sip"}, nil, 2, "", "ipsec: no applet sip; did you mean spi?", nil},
		{"a verb of another program", []string{"ipsec", "doctor"}, nil, 2, "", "ipsec: no applet doctor; this is done by ipsec verify (see", nil},
		{"a verb with swapped letters", []string{"ipsec", "dcotor"}, nil, 2, "", "ipsec: no applet dcotor; did you mean doctor? this is done by ipsec verify (see", nil},
		{"a verb by a link", []string{"ipsec_report"}, nil, 2, "", "ipsec_report: no applet report; this is done by ipsec barf", nil},
		{"a former name", []string{"ipsec", "start", "now"}, nil, 2, "", "ipsec setup: one thing at a time: start and now were given", nil},
		{"a former name by a link", []string{"ipsec_stop", "now"}, nil, 2, "", "ipsec_stop: one thing at a time: stop and now were given", nil},
		{"auto", []string{"ipsec", "auto", "--up"}, nil, 2, "", "ipsec up: which connection is missing", nil},
		{"auto with an option", []string{"ipsec", "auto", "--down", "--config", "none", "net/x"}, nil, 2, "", "ipsec down: connection: net/x is no name", nil},
		{"a verb in help", []string{"ipsec", "help", "add"}, nil, 2, "", "ipsec help: no applet add; this is done by ipsec spi for an SA", nil},
		{"a key for an applet", []string{"ipsec", "feedfacefeedface"}, nil, 2, "", "ipsec: no applet (16 characters, not shown: it may be part of a key)", nil},
		{"a key before the applet", []string{"ipsec", "--authkey=0xfeedface", "spi"}, nil, 2, "", "ipsec: unknown option --authkey; options", nil},
		{"-h", []string{"ipsec", "-h"}, nil, 0, "Applets:", "", nil},
		{"-?", []string{"ipsec", "-?"}, nil, 0, "Applets:", "", nil},
		{"-h of an applet", []string{"ipsec", "look", "-h"}, nil, 0, "ipsec look --json", "", nil},
		{"-? of an applet", []string{"ipsec_eroute", "-?"}, nil, 0, "ipsec_eroute --clear", "", nil},
		{"applet far from all", []string{"ipsec", "oe"}, nil, 2, "", "ipsec: no applet oe (see ipsec --help)\n", nil},
		{"applet with a line break", []string{"ipsec", "a\nb"}, nil, 2, "", "ipsec: no applet (3 characters, not shown: it may be part of a key) (see ipsec --help)\n", nil},
		{"empty applet", []string{"ipsec", ""}, nil, 2, "", `no applet ""`, nil},
		{"unknown link", []string{"/bin/ipsec_auto"}, nil, 2, "", "ipsec_auto: no applet auto; this is done by ipsec up and ipsec down", nil},
		{"option before the applet", []string{"ipsec", "--del", "spi"}, nil, 2, "", "ipsec: unknown option --del; options of an applet follow its name", nil},
		{"usage error of an applet", []string{"ipsec", "spi", "--nosuch"}, nil, 2, "", "(see ipsec spi --help)\n", nil},
		{"usage error with a label", []string{"ipsec", "spigrp", "--label", "L", "inet"}, nil, 2, "", "(see ipsec spigrp --help)\n", nil},
		{"help of an applet", []string{"ipsec", "spi", "--help"}, nil, 0, "--replay_window", "", nil},
		{"help through a link", []string{"ipsec_spi", "--help"}, nil, 0, "ipsec_spi --del SA", "", nil},
		{"version of an applet", []string{"spi", "--version"}, nil, 0, "spi ", "", nil},
		{"completion of none", []string{"ipsec", "completion"}, nil, 2, "", "name one shell", nil},
		{"completion of an unknown shell", []string{"ipsec", "completion", "csh"}, nil, 2, "", "no script for csh", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := call(c.environ, c.args...)
			if r.status != c.status {
				t.Errorf("status %d, want %d", r.status, c.status)
			}
			if c.out == "" && r.out != "" || !strings.Contains(r.out, c.out) {
				t.Errorf("standard output %q, want %q in it", r.out, c.out)
			}
			if c.err == "" && r.err != "" || !strings.Contains(r.err, c.err) {
				t.Errorf("standard error %q, want %q in it", r.err, c.err)
			}
			if strings.Count(r.err, "\n") > 1 {
				t.Errorf("standard error has several lines: %q", r.err)
			}
			if d := cmp.Diff(c.opened, r.opened); d != "" {
				t.Errorf("stacks opened (-want +got):\n%s", d)
			}
		})
	}
}

// TestErrors checks the messages and statuses for errors of applets.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{nil, 0, ""},
		{errors.New("no"), 1, "ipsec spi: no\n"},
		{errors.Join(errors.New("a"), errors.New("b")), 1, "ipsec spi: a; b\n"},
		{cli.Usagef("bad %s", "x"), 2, "ipsec spi: bad x (see ipsec spi --help)\n"},
		{&cli.ExitError{Code: 3}, 3, ""},
	} {
		var b bytes.Buffer
		p := &program{err: &b}
		if status := p.fail("ipsec spi", c.err); status != c.status || b.String() != c.text {
			t.Errorf("fail(%v) = %d with %q, want %d with %q", c.err, status, b.String(), c.status, c.text)
		}
	}
}

// TestRegistry checks that each applet matches its entry, and has everything that
// usage, pages and completion need.
func TestRegistry(t *testing.T) {
	for i, app := range Apps() {
		if app.Name != registry()[i].Name {
			t.Errorf("the applet of entry %s calls itself %s", registry()[i].Name, app.Name)
		}
		if app.Short == "" || strings.HasSuffix(app.Short, ".") || len(app.Short) > 64 {
			t.Errorf("%s: Short is %q", app.Name, app.Short)
		}
		if app.Parse == nil || len(app.Synopsis) == 0 {
			t.Errorf("%s has no Run or no Synopsis", app.Name)
		}
		names := map[string]bool{}
		for _, o := range app.Options {
			if o.Name == "" || o.Help == "" || names[o.Name] {
				t.Errorf("%s: option %q: name or help missing, or twice there", app.Name, o.Name)
			}
			names[o.Name] = true
		}
		for _, o := range app.Options {
			if o.Same != "" && !names[o.Same] {
				t.Errorf("%s: option %s is another name of %q, which is none", app.Name, o.Name, o.Same)
			}
		}
		if !names["help"] || !names["version"] {
			t.Errorf("%s lacks --help or --version", app.Name)
		}
		r := call(nil, "ipsec", app.Name, "--help")
		for _, o := range app.Options {
			if shown := strings.Contains(r.out, "--"+o.Name); !shown && !o.Hidden {
				t.Errorf("ipsec %s --help does not name --%s", app.Name, o.Name)
			}
		}
		if r.status != 0 || r.err != "" || r.opened != nil {
			t.Errorf("ipsec %s --help: status %d, standard error %q, stacks %v", app.Name, r.status, r.err, r.opened)
		}
	}
}

// TestLazy: choosing an applet creates no other applet, and not the tree of all.
func TestLazy(t *testing.T) {
	p := &program{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}
	chosen := testing.AllocsPerRun(20, func() { p.main([]string{"ipsec", "tncfg", "--version"}) })
	tree := testing.AllocsPerRun(20, func() { p.tree() })
	if chosen > 60 || tree < 4*chosen {
		t.Errorf("running one applet allocates %v times, making the tree %v times", chosen, tree)
	}
}

// completions requests completions like a shell and returns the words without their
// descriptions.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	return completionsIn(t, nil, args...)
}

// completionsIn does the same in an environment.
func completionsIn(t *testing.T, environ map[string]string, args ...string) []string {
	t.Helper()
	r := call(environ, args...)
	if r.status != 0 {
		t.Fatalf("%q: status %d: %s", args, r.status, r.err)
	}
	var words []string
	for line := range strings.Lines(r.out) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !strings.HasPrefix(word, ":") {
			words = append(words, word)
		}
	}
	return words
}

func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"ipsec", "__complete", "sp"}, []string{"spi", "spigrp"}},
		{[]string{"ipsec", "__complete", "help", "kl"}, []string{"klipsdebug", "klipsd"}},
		{[]string{"ipsec", "__complete", "completion", ""}, []string{"bash", "zsh", "fish"}},
		{[]string{"ipsec", "__complete", "--st"}, []string{"--stack"}},
		{[]string{"ipsec", "__complete", "--stack", ""}, []string{"user", "klips", "xfrm"}},
		{[]string{"ipsec", "__complete", "--stack", "user", "spi", "--del"}, []string{"--del"}},
		{[]string{"ipsec", "__complete", "spi", "--auth"}, []string{"--authkey"}},
		{[]string{"ipsec", "__complete", "spi", "--af", ""}, []string{"inet", "inet6"}},
		{[]string{"ipsec", "__complete", "spi", "--af=inet"}, []string{"--af=inet", "--af=inet6"}},
		{[]string{"ipsec", "__complete", "spi", "--esp", "aes256-g"}, []string{"aes256-gcm"}},
		{[]string{"ipsec", "__complete", "eroute", "--add", "--proto", "e"}, []string{"esp"}},
		{[]string{"ipsec", "__complete", "eroute", "--said", "%t"}, []string{"%trap", "%trapsubnet"}},
		{[]string{"ipsec", "__complete", "eroute", "--also", "%t"}, nil},
		{[]string{"ipsec", "__complete", "eroute", "--al"}, []string{"--also"}},
		{[]string{"ipsec", "__complete", "tncfg", "--physical", "l"}, []string{"lo"}},
		{[]string{"ipsec", "__complete", "setup", "st"}, []string{"start", "stop", "status"}},
		{[]string{"ipsec", "__complete", "setup", "start", "st"}, nil},
		{[]string{"ipsec_spi", "__complete", "--comp", ""}, []string{"deflate", "lzs"}},
		{[]string{"/sbin/eroute", "__completeNoDesc", "--eraf", "inet6"}, []string{"inet6"}},
	} {
		got := completions(t, c.args...)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(c.want))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, d)
		}
	}
	// Every visible option of every applet is offered, and no hidden one.
	for _, app := range Apps() {
		got := completions(t, "ipsec", "__complete", app.Name, "--")
		for _, o := range app.Options {
			if slices.Contains(got, "--"+o.Name) == o.Hidden {
				t.Errorf("%s --%s: offered is %v, hidden is %v", app.Name, o.Name, !o.Hidden, o.Hidden)
			}
		}
	}
}

// TestCompleteConns: the names of connections in files are offered where they can stand; a
// file that cannot be read is left out.
func TestCompleteConns(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.conf": "conn net\nconn nest\nconn other\n", "b.conf": "conn net\n", "c.conf": "no conn here\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, applet := range []string{"up", "down", "route", "unroute", "reload", "rekey", "status", "fingerprint", "mtu"} {
		got := completionsIn(t, map[string]string{"IPSEC_CONFS": dir}, "ipsec", "__complete", applet, "ne")
		slices.Sort(got)
		if d := cmp.Diff([]string{"nest", "net"}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", applet, d)
		}
	}
}

// saStack has one SA.
type saStack struct{ clitest.Stack }

func (*saStack) SAs(context.Context) ([]klips.SA, error) {
	id, err := syntax.ParseSAID("esp0x115@192.0.2.1", nil)
	return []klips.SA{{ID: id}}, err
}

func TestCompleteSAIDs(t *testing.T) {
	var out bytes.Buffer
	stack := new(saStack)
	asked := ""
	p := &program{
		in: strings.NewReader(""), out: &out, err: io.Discard, getenv: func(string) string { return "" },
		open: func(_ context.Context, c stacks.Config) (klips.Stack, error) {
			asked = c.Stack
			return serial.New(stack), nil
		},
	}
	for _, args := range [][]string{
		{"ipsec", "__complete", "--stack", "user", "spi", "--said", "esp"},
		{"ipsec", "__complete", "--stack=user", "spigrp", "--said", "tun0x113@192.0.2.1", ""},
	} {
		out.Reset()
		asked = ""
		if status := p.main(args); status != 0 || !strings.HasPrefix(out.String(), "esp0x115@192.0.2.1\n") || asked != "user" {
			t.Errorf("%q: status %d, stack %q, output %q", args, status, asked, out.String())
		}
	}
	if stack.Closed != 2 {
		t.Errorf("the stack was closed %d times, want 2", stack.Closed)
	}
}

// TestScripts checks that the scripts exist and also complete the links.
func TestScripts(t *testing.T) {
	for shell, part := range map[string]string{
		"bash": "\ncomplete -o default -o nosort -F __start_ipsec ipsec_spi ipsec_spigrp",
		"zsh":  "#compdef ipsec ipsec_spi ipsec_spigrp",
		"fish": "\nfor link in ipsec_spi ipsec_spigrp",
	} {
		r := call(nil, "ipsec", "completion", shell)
		if r.status != 0 || !strings.Contains(r.out, part) || !strings.Contains(r.out, "__complete") {
			t.Errorf("completion %s: status %d, %d bytes, no %q in it", shell, r.status, len(r.out), part)
		}
	}
}

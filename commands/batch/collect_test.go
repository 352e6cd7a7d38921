package batch

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

func newModel() *klipstest.Model {
	return klipstest.NewModel(func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") },
		func(name string) (int, bool) { return 1500, name == "eth0" })
}

// A fickle is a stack that refuses one change for a reason that cannot be known before.
type fickle struct {
	*klipstest.Model
	left    int // changes before the refusal; negative: no refusal
	asked   [][]klips.Change
	heard   chan int // if not nil: receives the number of changes of each Apply
	held    int      // present number of holds
	holds   int      // holds in total
	loose   int      // changes without a hold
	refused klips.Change
}

func (f *fickle) stack() klips.Stack { return fickleStack{serial.New(f.Model), f} }

type fickleStack struct {
	klips.Stack
	f *fickle
}

func (s fickleStack) Hold(context.Context) (release func(), err error) {
	s.f.held++
	s.f.holds++
	return func() { s.f.held-- }, nil
}

func (s fickleStack) Apply(ctx context.Context, changes ...klips.Change) (r klips.Result, err error) {
	s.f.asked = append(s.f.asked, changes)
	if s.f.held != 1 {
		s.f.loose += len(changes)
	}
	if s.f.heard != nil {
		s.f.heard <- len(changes)
	}
	for _, c := range changes {
		if s.f.left == 0 {
			s.f.left, s.f.refused = -1, c
			return r, &klips.OpError{Op: c.Op(), Object: c.Object(), Err: syscall.ENOMEM}
		}
		s.f.left--
		o, err := klips.Do(ctx, s.Stack, c)
		if err != nil {
			return r, err
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	return r, nil
}

// anyLine returns a random command, correct or wrong, possible or not.
func anyLine(r *rand.Rand) string {
	n := func() int { return 0x100 + r.IntN(6) }
	switch r.IntN(16) {
	case 0, 1, 2:
		return fmt.Sprintf("spi --said tun0x%x@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2", n())
	case 3, 4, 5:
		return strings.Replace(strings.TrimSpace(espSA), "0x101", fmt.Sprintf("0x%x", n()), 1)
	case 6, 7:
		k := n()
		return fmt.Sprintf("spigrp --said tun0x%x@192.0.2.2 esp0x%x@192.0.2.2", k, k)
	case 8:
		return fmt.Sprintf("spigrp --said esp0x%x@192.0.2.2", n())
	case 9, 10:
		return fmt.Sprintf("eroute --add --src 10.0.1.0/24 --dst 10.0.%d.0/24 --said tun0x%x@192.0.2.2 --debug", r.IntN(5), n())
	case 11:
		return fmt.Sprintf("spi --del --said esp0x%x@192.0.2.2", n())
	case 12:
		return [...]string{"spi", "spigrp", "eroute", "tncfg", "version", "spi --help"}[r.IntN(6)]
	case 13:
		return fmt.Sprintf("spi --said tun0x%x@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2 --dumpsaref", n())
	case 14:
		return [...]string{"spi --nosuch", "tncfg --attach --virtual ipsec0 --physical eth0", "eroute --clear", "spi --clear", "nosuch", "'"}[r.IntN(6)]
	}
	return fmt.Sprintf("eroute --del --src 10.0.1.0/24 --dst 10.0.%d.0/24", r.IntN(5))
}

// nextLine returns a line of a file that makes tunnels.
func nextLine(i int) string {
	return strings.ReplaceAll(strings.TrimSpace([...]string{tunSA,
		strings.Replace(espSA, "0x101@", "0x100@", 1),
		strings.Replace(group, "0x101@", "0x100@", 1),
		strings.Replace(route, "10.0.2.0", fmt.Sprintf("10.1.%d.0", i), 1),
	}[i%4]), "0x100@", fmt.Sprintf("0x%x@", 0x200+i/4))
}

var refs = regexp.MustCompile(`ref=[0-9]+`)

// randomFile returns a random file. Most commands of a tidy one can be carried out.
func randomFile(r *rand.Rand) string {
	var b strings.Builder
	tidy := r.IntN(3) > 0
	for i := range 1 + r.IntN(60) {
		line := anyLine(r)
		if tidy && r.IntN(100) > 0 {
			line = nextLine(i)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// runText runs a text as a file or through a pipe.
func runText(t *testing.T, s klips.Stack, text string, args ...string) clitest.Result {
	t.Helper()
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return s }}
	if args[len(args)-1] == "-" {
		w.In = strings.NewReader(text)
	} else if err := os.WriteFile(args[len(args)-1], []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return clitest.Run(app(), w, args...)
}

// TestAllOrNone: a random file is carried out as a whole, or the tables are unchanged.
// Changes that the stack cannot roll back are named. With --keep-going, and if the
// whole file can be carried out, the tables and the output are the same as those of the
// commands one by one.
func TestAllOrNone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	file := filepath.Join(t.TempDir(), "f")
	lines, asked, done, taken := 0, 0, 0, 0
	for range 400 {
		before := newModel()
		// An attached device keeps its MTU after it is detached.
		for _, line := range []string{"tncfg --attach --virtual ipsec0 --physical eth0", "tncfg --detach --virtual ipsec0"} {
			if !runOne(t, serial.New(before), understood(line)) {
				t.Fatal(line)
			}
		}
		for range r.IntN(6) {
			runOne(t, serial.New(before), understood(anyLine(r)))
		}
		text := randomFile(r)
		lines += strings.Count(text, "\n")
		one := &klipstest.Model{Model: before.Model.Clone()}
		failed := 0
		for line := range strings.Lines(text) {
			if !runOne(t, serial.New(one), understood(line)) {
				failed++
			}
		}
		fresh := func() *fickle {
			return &fickle{Model: &klipstest.Model{Model: before.Model.Clone()}, left: -1}
		}
		same := func(how string, want, got *klipstest.Model) {
			t.Helper()
			if d, err := klipstest.SameTables(t.Context(), want, got); d != "" || err != nil {
				t.Fatalf("%s, of\n%s\nthe tables differ: %s %v", how, text, d, err)
			}
		}
		all := fresh()
		whole := runText(t, all.stack(), text, [...]string{file, "-"}[r.IntN(2)])
		for _, l := range all.asked {
			asked += min(1, len(l))
		}
		if all.loose > 0 || all.held != 0 {
			t.Fatalf("%d changes while the stack was not held, held %d times now, of\n%s", all.loose, all.held, text)
		}
		going := fresh()
		kept := runText(t, going.stack(), text, "--keep-going", [...]string{file, "-"}[r.IntN(2)])
		same("with --keep-going", one, going.Model)
		if failed > 0 {
			same("when one is refused", before, all.Model)
			if whole.Status == 0 || kept.Status == 0 || len(all.asked) > 0 {
				t.Fatalf("status %d and %d with --keep-going, asked %v, of\n%s", whole.Status, kept.Status, all.asked, text)
			}
			continue
		}
		done++
		same("all", one, all.Model)
		if whole.Status != 0 || kept.Status != 0 || refs.ReplaceAllString(whole.Out, "") != refs.ReplaceAllString(kept.Out, "") {
			t.Fatalf("status %d\n%s%s\nwith --keep-going %d\n%s%s", whole.Status, whole.Out, whole.Err, kept.Status, kept.Out, kept.Err)
		}
		bad := fresh()
		bad.left = r.IntN(strings.Count(text, "\n"))
		late := runText(t, bad.stack(), text, file)
		if bad.refused == nil {
			continue // the file has fewer changes
		}
		if bad.loose > 0 || bad.held != 0 {
			t.Fatalf("%d changes while the stack was not held, held %d times now, when %v is taken back", bad.loose, bad.held, bad.refused)
		}
		dry := fresh()
		if runText(t, dry.stack(), text, "--dry-run", file); dry.holds > 0 || len(dry.asked) > 0 {
			t.Fatalf("a dry run holds the stack %d times and asks for %v", dry.holds, dry.asked)
		}
		if late.Status != 1 {
			t.Fatalf("status %d when the stack refuses %v: %s", late.Status, bad.refused, late.Err)
		}
		if strings.Contains(late.Err, "not taken back: ") {
			taken++
			continue
		}
		same(fmt.Sprint("when the stack refuses ", bad.refused), before, bad.Model)
		if !strings.HasSuffix(late.Err, "note: nothing was done\n") {
			t.Fatalf("%q when the stack refuses %v", late.Err, bad.refused)
		}
	}
	if asked*5 > lines || done < 50 || done > 350 || taken > 200 {
		t.Errorf("%d lines asked for in %d parts, %d of 400 files done, %d not taken back; the test says little", lines, asked, done, taken)
	}
}

// understood returns the command of a line.
func understood(line string) command {
	c, err := newReader(strings.NewReader(line)).next()
	if err != nil {
		panic(err)
	}
	return c
}

// TestPause: with --keep-going, commands from a pipe are carried out when no more
// arrive. After an interrupt, commands that have not been carried out are not counted.
func TestPause(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	c := &fickle{Model: newModel(), left: -1, heard: make(chan int)}
	ended := make(chan clitest.Result)
	go func() {
		ended <- clitest.Run(app(), clitest.World{In: in, Wrap: func(*clitest.Stack) klips.Stack { return c.stack() }}, "--keep-going", "-")
	}()
	for i := range 2 {
		io.WriteString(out, strings.ReplaceAll(tunSA, "0x100", fmt.Sprintf("0x%x", 0x100+i)))
		if n := <-c.heard; n != 1 {
			t.Fatalf("%d changes at once, want 1", n)
		}
	}
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	r := <-ended
	if want := "ipsec batch: interrupted; 2 commands were done\n"; r.Err != want {
		t.Errorf("%q, want %q", r.Err, want)
	}
	if l, _ := c.SAs(t.Context()); len(l) != 2 {
		t.Errorf("%d SAs, want 2", len(l))
	}
}

// TestCommit: commands from a pipe are carried out at a line commit, and at the end.
func TestCommit(t *testing.T) {
	in, out := io.Pipe()
	c := &fickle{Model: newModel(), left: -1, heard: make(chan int)}
	ended := make(chan clitest.Result)
	go func() {
		ended <- clitest.Run(app(), clitest.World{In: in, Wrap: func(*clitest.Stack) klips.Stack { return c.stack() }}, "-")
	}()
	io.WriteString(out, tunSA+espSA+"commit\n")
	if n := <-c.heard; n != 2 {
		t.Fatalf("%d changes at commit, want 2", n)
	}
	io.WriteString(out, group+route)
	out.Close()
	if n := <-c.heard; n != 2 {
		t.Fatalf("%d changes at the end, want 2", n)
	}
	if r := <-ended; r.Status != 0 || r.Err != "" {
		t.Errorf("status %d, %q", r.Status, r.Err)
	}
}

// TestNotTakenBack: changes that a stack cannot roll back are named.
func TestNotTakenBack(t *testing.T) {
	f := &fickle{Model: newModel(), left: -1}
	file := filepath.Join(t.TempDir(), "f")
	if r := runText(t, f.stack(), tunSA+espSA, file); r.Status != 0 {
		t.Fatal(r.Err)
	}
	f.left = 1
	r := runText(t, f.stack(), "spi --del --said tun0x100@192.0.2.2\n"+route, file)
	const want = "note: not taken back: delete SA tun0x100@192.0.2.2: no stack can\n"
	if r.Status != 1 || !strings.HasSuffix(r.Err, want) {
		t.Errorf("status %d, %q, want %q at the end", r.Status, r.Err, want)
	}
}

// TestPrintFails: a command that cannot print its output fails. Of a file, nothing
// remains. With --keep-going the other commands are carried out, none of them twice.
func TestPrintFails(t *testing.T) {
	const ref = "spi --said tun0x101@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2 --dumpsaref\n"
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte(tunSA+ref+espSA), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want int // SAs
	}{
		{[]string{file}, 0},
		{[]string{"--keep-going", file}, 3},
	} {
		m := newModel()
		var errs strings.Builder
		env := &cli.Env{Name: "ipsec batch", Out: full{}, Err: &errs, Getenv: func(string) string { return "" },
			Stack: func(context.Context) (klips.Stack, error) { return serial.New(m), nil }}
		_, status := cli.Message("ipsec batch", app().Run(t.Context(), env, tt.args))
		l, _ := m.SAs(t.Context())
		if status != cli.ExitFailed || len(l) != tt.want || strings.Count(errs.String(), "standard output: ") != 1 || strings.Contains(errs.String(), "exists") {
			t.Errorf("batch %v: status %d, %d SAs, %q; want %d SAs", tt.args, status, len(l), errs.String(), tt.want)
		}
	}
}

// A full is an output that refuses all writes.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

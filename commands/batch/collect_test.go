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

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
)

func newModel() *klipstest.Model {
	return klipstest.NewModel(func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") },
		func(name string) (int, bool) { return 1500, name == "eth0" })
}

// A collector is a model that collects changes.
type collector struct {
	*klipstest.Model
	blind   bool     // refuses nothing before it is carried out
	commits int      // with something in them
	heard   chan int // if not nil: gets the length of each commit
}

func (c *collector) Collect() klips.Collection { return &collection{stack: c} }

type collection struct {
	stack *collector
	list  []func(klips.Changes) error
}

func (c *collection) Len() int { return len(c.list) }

func (c *collection) Commit(_ context.Context, n int) (int, error) {
	l := c.list[:n]
	c.list = nil
	if n > 0 {
		c.stack.commits++
		if c.stack.heard != nil {
			c.stack.heard <- n
		}
	}
	for i, f := range l {
		if err := f(c.stack.Model); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (c *collection) take(f func(klips.Changes) error) error {
	if !c.stack.blind {
		m := c.stack.Clone()
		for _, f := range c.list {
			f(m)
		}
		if err := f(m); err != nil {
			return err
		}
	}
	c.list = append(c.list, f)
	return nil
}

func (c *collection) AddSA(ctx context.Context, spec *klips.SASpec) error {
	s := *spec
	s.EncKey, s.AuthKey = append([]byte(nil), s.EncKey...), append([]byte(nil), s.AuthKey...)
	return c.take(func(m klips.Changes) error { return m.AddSA(ctx, &s) })
}

func (c *collection) DeleteSA(ctx context.Context, id klips.SAID) error {
	return c.take(func(m klips.Changes) error { return m.DeleteSA(ctx, id) })
}

func (c *collection) ClearSAs(ctx context.Context) error {
	return c.take(func(m klips.Changes) error { return m.ClearSAs(ctx) })
}

func (c *collection) Group(ctx context.Context, ids []klips.SAID) error {
	return c.take(func(m klips.Changes) error { return m.Group(ctx, ids) })
}

func (c *collection) Ungroup(ctx context.Context, id klips.SAID) error {
	return c.take(func(m klips.Changes) error { return m.Ungroup(ctx, id) })
}

func (c *collection) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	return c.take(func(m klips.Changes) error { return m.SetEroute(ctx, e, op) })
}

func (c *collection) DeleteEroute(ctx context.Context, s klips.Selector) error {
	return c.take(func(m klips.Changes) error { return m.DeleteEroute(ctx, s) })
}

func (c *collection) ClearEroutes(ctx context.Context) error {
	return c.take(func(m klips.Changes) error { return m.ClearEroutes(ctx) })
}

// anyLine draws a command that is right or wrong, possible or not.
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

// nextLine is a line of a file that makes tunnels.
func nextLine(i int) string {
	return strings.ReplaceAll(strings.TrimSpace([...]string{tunSA,
		strings.Replace(espSA, "0x101@", "0x100@", 1),
		strings.Replace(group, "0x101@", "0x100@", 1),
		strings.Replace(route, "10.0.2.0", fmt.Sprintf("10.1.%d.0", i), 1),
	}[i%4]), "0x100@", fmt.Sprintf("0x%x@", 0x200+i/4))
}

var refs = regexp.MustCompile(`ref=[0-9]+`)

// TestCollect runs random files line by line and collected: who looks on cannot
// tell which it was.
func TestCollect(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	file := filepath.Join(t.TempDir(), "f")
	lines, commits, failed := 0, 0, 0
	for range 400 {
		var b strings.Builder
		tidy := r.IntN(3) > 0 // a file of which most can be done
		for i := range 1 + r.IntN(60) {
			line := anyLine(r)
			if tidy && r.IntN(100) > 0 {
				line = nextLine(i)
			}
			b.WriteString(line + "\n")
			lines++
		}
		text := b.String()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args := [][]string{{file}, {"--keep-going", file}, {"-"}, {"--keep-going", "-"}}[r.IntN(4)]
		run := func(s klips.Stack) clitest.Result {
			w := clitest.World{Wrap: func(klips.Stack) klips.Stack { return s }}
			if args[len(args)-1] == "-" {
				w.In = strings.NewReader(text)
			}
			return clitest.Run(App(), w, args...)
		}
		model := newModel()
		want := run(model)
		if want.Status != 0 {
			failed++
		}
		for _, blind := range []bool{false, true} {
			c := &collector{Model: newModel(), blind: blind}
			got := run(c)
			// Refused SAs take references of the model.
			got.Out, want.Out = refs.ReplaceAllString(got.Out, "ref=N"), refs.ReplaceAllString(want.Out, "ref=N")
			commits += c.commits
			if got.Out != want.Out || got.Err != want.Err || got.Status != want.Status {
				t.Fatalf("batch %v, blind %v, of\n%s\n got status %d\n%s%s\nwant status %d\n%s%s", args, blind, text,
					got.Status, got.Out, got.Err, want.Status, want.Out, want.Err)
			}
			if d, err := klipstest.SameTables(t.Context(), model, c.Model); d != "" || err != nil {
				t.Fatalf("batch %v, blind %v, of\n%s\nthe tables differ: %s %v", args, blind, text, d, err)
			}
		}
	}
	if commits*5 > lines || failed < 100 || failed > 300 {
		t.Errorf("%d lines in %d commits, %d of 400 files failed; the test says little", lines, commits, failed)
	}
}

// TestPause: what comes through a pipe is carried out when no more comes, and
// when an interrupt ends the file what has not been carried out is not counted.
func TestPause(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	c := &collector{Model: newModel(), heard: make(chan int)}
	ended := make(chan clitest.Result)
	go func() {
		ended <- clitest.Run(App(), clitest.World{In: in, Wrap: func(klips.Stack) klips.Stack { return c }}, "-")
	}()
	for range 2 {
		io.WriteString(out, strings.ReplaceAll(tunSA, "0x100", fmt.Sprintf("0x%x", 0x100+c.commits)))
		if n := <-c.heard; n != 1 {
			t.Fatalf("%d changes in a commit, want 1", n)
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

package manual

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// newRecorded returns a bench that keeps records.
func newRecorded(t *testing.T, text string) *bench {
	t.Helper()
	b := newBench(t, text)
	b.host.rundir = filepath.Join(t.TempDir(), "run")
	return b
}

// write changes the file of the bench.
func (b *bench) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command runs an applet that works on whole connections: up, down and so on. The word
// FILE is the bench's file.
func (b *bench) command(line string) clitest.Result {
	w := clitest.World{StackErr: b.stackErr, Wrap: func(*clitest.Stack) klips.Stack { return serial.New(b.model) }}
	start := func(context.Context, *cli.Env) error { b.started++; return nil }
	name, rest, _ := strings.Cut(line, " ")
	var a *cli.App
	switch name {
	case "apply", "reload", "diff":
		a = map[string]*cli.App{"apply": Apply(start), "reload": Reload(start), "diff": Diff()}[name]
		a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
			return applyCommand(env, a, args, b.host, &b.table, start)
		}
	default:
		a = map[string]func(Start) *cli.App{"up": Up, "down": Down, "route": Route, "unroute": Unroute}[name](start)
		a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
			return verbCommand(env, a, args, b.host, &b.table, start)
		}
	}
	return clitest.Run(a, w, strings.Fields(strings.ReplaceAll(rest, "FILE", b.file))...)
}

// ok runs a command that must succeed without a word.
func (b *bench) ok(t *testing.T, line string) {
	t.Helper()
	if r := b.command(line); r.Status != 0 || r.Out != "" || r.Err != "" {
		t.Fatalf("%s: %+v", line, r)
	}
}

// What was made is taken down and opened as it was made, whatever has become of the file.
func TestDownAsMade(t *testing.T) {
	for name, text := range map[string]string{
		"other SPIs":   strings.ReplaceAll(tunnel, "spibase=0x200", "spibase=0x300"),
		"other subnet": strings.ReplaceAll(tunnel, "10.2.0.0/16", "10.7.0.0/16"),
		"a wrong line": strings.ReplaceAll(tunnel, "spibase=0x200", "spibase=nothing"),
		"no conn":      "conn other\n x-none=1\n",
		"empty":        "",
		"damaged":      "\x00",
	} {
		for _, line := range []string{"down --config FILE t", "down --config FILE --all", "unroute --config FILE t"} {
			if strings.Contains(line, "--all") && name == "damaged" {
				continue // what it has is not known
			}
			b := newRecorded(t, tunnel)
			b.ok(t, "up --config FILE t")
			closed := b.guarded()
			b.write(t, text)
			if r := b.command(line); r.Status != 0 || strings.Contains(r.Err, "it was") {
				t.Errorf("%s, %s: %+v", name, line, r)
			}
			if strings.Contains(b.state(), "esp0x") {
				t.Errorf("%s, %s: SAs are left:\n%s", name, line, b.state())
			}
			if strings.HasPrefix(line, "unroute") {
				closed = ""
			}
			if got := b.guarded(); got != closed {
				t.Errorf("%s, %s: guarded:\n%s\nnot\n%s", name, line, got, closed)
			}
		}
	}
}

// A connection that is up in another form, or with other keys, is not brought up again.
func TestUpAgain(t *testing.T) {
	b := newRecorded(t, tunnel)
	b.ok(t, "up --config FILE t")
	up := b.state() + b.guarded()
	for _, tt := range []struct{ from, to, want string }{
		{"spibase=0x200", "spibase=0x300", "it is up in another form: spibase: 0x200 is made, the file has 0x300; ipsec reload t"},
		{"10.2.0.0/16", "10.7.0.0/16", "it is up in another form: rightsubnet: 10.2.0.0/16 is made, the file has 10.7.0.0/16; ipsec reload t"},
		{"espenckey=0x01", "espenckey=0x02", "it is up with other keys; ipsec reload t"},
		{"x", "x", "note: conn t: it is up already"},
	} {
		b.write(t, strings.ReplaceAll(tunnel, tt.from, tt.to))
		if r := b.command("up --config FILE t"); !strings.Contains(r.Err, tt.want) || (r.Status == 1) != (tt.from != tt.to) {
			t.Errorf("%s: %+v", tt.to, r)
		}
		if got := b.state() + b.guarded(); got != up {
			t.Errorf("%s: changed to\n%s", tt.to, got)
		}
	}
}

// A flow of an earlier form stays closed until the connection is unrouted.
func TestClosedFormer(t *testing.T) {
	b := newRecorded(t, tunnel)
	b.ok(t, "up --config FILE t")
	b.ok(t, "down --config FILE t")
	b.write(t, strings.ReplaceAll(tunnel, "10.2.0.0/16", "10.7.0.0/16"))
	b.ok(t, "up --config FILE t")
	for _, flow := range []string{"guard 10.1.0.0/16 10.2.0.0/16", "guard 10.1.0.0/16 10.7.0.0/16", "route 10.2.0.0/16 unreachable", "route 10.7.0.0/16 unreachable"} {
		if !strings.Contains(b.guarded(), flow) {
			t.Errorf("%s is not there:\n%s", flow, b.guarded())
		}
	}
	if strings.Contains(b.state(), "route 10.2.0.0/16 ipsec0") {
		t.Errorf("the former route is still there:\n%s", b.state())
	}
	if r := b.command("unroute --config FILE t"); r.Status != 0 || b.guarded() != "" || strings.Contains(b.state(), "route") {
		t.Errorf("%+v, %s%s", r, b.guarded(), b.state())
	}
}

// A connection that is taken back because another one failed is not recorded, nor followed.
func TestTakenBackRecords(t *testing.T) {
	for _, line := range []string{"up --config FILE t u", "apply FILE"} {
		refused := 0
		for fail := 1; ; fail++ {
			b := newRoamer(t)
			b.write(t, roaming+" auto=start\n"+second)
			b.model.failAt = fail
			r := b.command(line)
			b.model.failAt = 0
			if r.Status == 0 {
				break
			}
			refused++
			records, err := readRecords(b.host)
			if err != nil || len(records) > 0 || followed.Any(b.host.rundir) {
				t.Fatalf("%s, request %d: %v, %v, followed: %t\n%+v", line, fail, records, err, followed.Any(b.host.rundir), r)
			}
			// What was there before comes back.
			b.ok(t, "route --config FILE t")
			before, _ := readRecords(b.host)
			b.model.requests, b.model.failAt = 0, fail
			r = b.command(line)
			b.model.failAt = 0
			if after, _ := readRecords(b.host); r.Status != 0 && !reflect.DeepEqual(before, after) {
				t.Fatalf("%s, request %d, after route: %v, want %v", line, fail, after, before)
			}
		}
		if refused < 8 {
			t.Errorf("%s: only %d requests", line, refused)
		}
	}
}

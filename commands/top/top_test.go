package top

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/redraw"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/serial"
)

func TestMeter(t *testing.T) {
	var m meter[string]
	at := time.Unix(1000, 0)
	read := func(seconds float64, counts map[string]count) map[string]string {
		at = at.Add(time.Duration(seconds * float64(time.Second)))
		m.begin(at)
		got := map[string]string{}
		for name, c := range counts {
			r, known := m.rate(name, c)
			got[name] = fmt.Sprint(r, known)
		}
		return got
	}
	for i, c := range []struct {
		seconds float64
		counts  map[string]count
		want    map[string]string
	}{
		{0, map[string]count{"a": {10, 1000, 1}}, map[string]string{"a": "{0 0 0} false"}},
		{2, map[string]count{"a": {14, 1600, 1}}, map[string]string{"a": "{2 300 0} true"}},
		// One goes, another one comes.
		{0.5, map[string]count{"b": {1, 50, 0}}, map[string]string{"b": "{2 100 0} true"}},
		// One comes again, with counts that begin at 0 again; the other one was made again.
		{1, map[string]count{"a": {3, 30, 0}, "b": {0, 40, 2}}, map[string]string{"a": "{3 30 0} true", "b": "{0 40 2} true"}},
		// Without time there is no rate.
		{0, map[string]count{"a": {9, 90, 0}}, map[string]string{"a": "{0 0 0} false"}},
	} {
		if d := cmp.Diff(c.want, read(c.seconds, c.counts)); d != "" {
			t.Errorf("reading %d (-want +got)\n%s", i+1, d)
		}
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.5: "0.50", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 12: "12", 999: "999", 999.6: "1.00k",
		1234: "1.23k", 9999: "10.0k", 56789: "56.8k", 999499: "999k", 999500: "1.00M", 1e9: "1.00G", 2.5e12: "2.50T", 1e15: "1.00P", math.MaxUint64: "18.4E",
	} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %q, want %q", v, got, want)
		}
	}
	for v := 0.001; v < 2e19; v *= 1.01 {
		if got := short(v); len(got) > 5 {
			t.Errorf("short(%v) = %q, which is too long", v, got)
		}
	}
}

func TestIdleTime(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1999 * time.Millisecond: "1s", 59 * time.Second: "59s", time.Minute: "1m", 3599 * time.Second: "59m", time.Hour: "1h", 49 * time.Hour: "2d",
	} {
		if got := (&row{idle: d}).idleTime(); got != want {
			t.Errorf("idle for %v: %q, want %q", d, got, want)
		}
	}
}

// TestShare: two tables share the lines, and waste none.
func TestShare(t *testing.T) {
	for lines := 2; lines < 40; lines++ {
		for sas := range 60 {
			for eroutes := range 60 {
				a, b := share(lines, sas, eroutes)
				switch {
				case sas+eroutes <= lines:
					if a != sas || b != eroutes {
						t.Fatalf("%d lines for %d and %d: %d and %d, want all", lines, sas, eroutes, a, b)
					}
				case a > sas || b > eroutes || a < 0 || b < 0 || a+b != lines:
					t.Fatalf("%d lines for %d and %d: %d and %d", lines, sas, eroutes, a, b)
				case a < sas && a < lines*2/3 || b < eroutes && b < lines-lines*2/3:
					t.Fatalf("%d lines for %d and %d: %d and %d, which is less than its part", lines, sas, eroutes, a, b)
				}
			}
		}
	}
}

// A busy is a stack with traffic. Each reading is two seconds after the one before.
type busy struct {
	clitest.Full
	readings uint64
	err      error
}

func (b *busy) SAs(ctx context.Context) ([]klips.SA, error) {
	l, err := b.Full.SAs(ctx)
	b.readings++
	l[0].Life.Packets.Count, l[0].Life.Bytes.Count = 1000*b.readings, 1400_000*b.readings
	l[1].Seq, l[1].Life.Bytes.Count, l[1].Life.Packets.Count, l[1].Idle = 3<<62, 2_000_000*b.readings, 1000*b.readings, 90*time.Minute
	l[3].Life.Packets.Count, l[3].Drops = 7, drop.Counts{"bad-icv": 3 * b.readings, "replayed": 1}
	if b.readings > 2 { // one goes and another one comes
		l[2].ID.SPI++
		l[2].Life.Packets.Count = 4
	}
	return l, errors.Join(err, b.err)
}

func (b *busy) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	l, err := b.Full.Eroutes(ctx)
	l[1].Packets = 10 * b.readings
	l = append(l[:3], klips.Eroute{ID: klips.Magic(klips.SPIDrop), Packets: 1e6 * b.readings,
		Selector: klips.Selector{Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("192.0.2.0/24")}})
	return l, err
}

// newTop returns a top of a stack with a clock that every reading moves.
func newTop(env *cli.Env, b *busy) *top {
	env.Name = "ipsec top"
	env.Stack = func(context.Context) (klips.Stack, error) { return serial.New(b), nil }
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return &top{env: env, common: &cli.Common{}, stacks: reopen.New(env), now: func() time.Time { at = at.Add(2 * time.Second); return at }}
}

// TestGolden: tables for a terminal that is small, for one that is large, and for one that is
// none; before there are rates and with them.
func TestGolden(t *testing.T) {
	top := newTop(&cli.Env{}, &busy{})
	for i, size := range []redraw.Size{{}, {Rows: 14}, {Rows: 50, Columns: 80}, {Rows: 1}} {
		v, err := top.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v.host = "gw1"
		var b bytes.Buffer
		if err := v.write(&b, size); err != nil {
			t.Fatal(err)
		}
		if size.Rows > heads+2 && strings.Count(b.String(), "\n") > size.Rows-1 {
			t.Errorf("%d lines for a terminal with %d", strings.Count(b.String(), "\n"), size.Rows)
		}
		clitest.Golden(t, fmt.Sprintf("view%d.txt", i+1), b.String())
	}
}

// TestWatch: without a terminal each table has rates, so there is one less than readings.
func TestWatch(t *testing.T) {
	var out, errs bytes.Buffer
	b := &busy{}
	o := redraw.Options{Count: 2, WaitFirst: true, After: func(time.Duration) <-chan time.Time {
		c := make(chan time.Time, 1)
		c <- time.Time{}
		return c
	}}
	if err := newTop(&cli.Env{Out: &out, Err: &errs}, b).watch(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if b.readings != 3 || strings.Count(out.String(), "\nEROUTE ") != 2 || strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "8.00M") || errs.Len() > 0 {
		t.Errorf("%d readings, printed %s%s", b.readings, &out, &errs)
	}
	b.err = &klips.OpError{Op: "list", Err: syscall.EPERM}
	err := newTop(&cli.Env{Out: &out, Err: &errs}, b).watch(t.Context(), o)
	if err == nil || !strings.HasPrefix(err.Error(), "SAs: cannot be listed: not permitted") {
		t.Errorf("without rights: %v", err)
	}
}

// TestFailedReading: after a reading that fails there are no rates, and then there are.
func TestFailedReading(t *testing.T) {
	b := &busy{}
	top := newTop(&cli.Env{}, b)
	for i, want := range []bool{false, true, false, false, true} {
		b.err = nil
		if i == 2 {
			b.err = errors.New("broken")
		}
		v, err := top.read(t.Context())
		if !errors.Is(err, b.err) {
			t.Fatalf("reading %d: %v", i+1, err)
		}
		if err == nil && v.sas[0].known != want {
			t.Errorf("reading %d has rates: %v, want %v", i+1, v.sas[0].known, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"--nosuch"}, {"now"}, {"--count", "0"}, {"--count", "x"}, {"--interval", "0"}, {"--interval", "1", "--interval", "2"}} {
		if r := clitest.Run(App(), clitest.World{}, args...); r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("top %q: status %d, opened %v, %q", args, r.Status, r.Opened, r.Out)
		}
	}
	r := clitest.Run(App(), clitest.World{}, "--count", "1", "--interval", "0.1")
	if r.Status != 0 || !strings.Contains(r.Out, " stack klips, SAs: 0, eroutes: 0\n") {
		t.Errorf("top of an empty stack: status %d, %s, %s", r.Status, r.Out, r.Err)
	}
	if r := clitest.Run(App(), clitest.World{StackErr: errors.New("none here")}); r.Status != cli.ExitFailed || r.Err != "ipsec top: none here\n" {
		t.Errorf("top without a stack: status %d, %q", r.Status, r.Err)
	}
}

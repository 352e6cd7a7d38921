package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/testscripts/scrape"
)

// A full is a stack with records in each table and with all limits. Unlike those of a spoiled
// KLIPS kernel, each eroute has packets of its own.
type full struct{ clitest.Full }

func (f *full) SAs(ctx context.Context) ([]klips.SA, error) {
	l, err := f.Full.SAs(ctx)
	l[1].Life.UseTime.Hard = 7200
	return l, err
}

func (*full) KernelDrops(context.Context) ([]klips.KernelDrops, error) {
	return []klips.KernelDrops{{Counter: "XfrmInStateProtoError", Reason: "bad-icv", Packets: 2}}, nil
}

func (f *full) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	l, err := f.Full.Eroutes(ctx)
	for i := range l {
		if l[i].Is6() {
			l[i].Proto = uint8(i)
		}
	}
	return l, err
}

func world(s serial.Doer) clitest.World {
	return clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}
}

// TestGolden: the metrics of a stack with records in each table, and of an empty one. Both
// are what the specification allows.
func TestGolden(t *testing.T) {
	for name, w := range map[string]clitest.World{"full.txt": world(&full{}), "empty.txt": {}} {
		r := clitest.Run(App(), w)
		if _, err := scrape.Parse(r.Out); r.Status != 0 || err != nil {
			t.Errorf("%s: status %d, %s, %v", name, r.Status, r.Err, err)
		}
		clitest.Golden(t, name, r.Out)
	}
}

// TestPrometheus: the older form has the same samples. Each family has a name and a type of
// that form.
func TestPrometheus(t *testing.T) {
	var text [2]string
	for i, form := range []openmetrics.Form{openmetrics.OpenMetrics, openmetrics.Prometheus} {
		m, err := read(t.Context(), serial.New(&full{}), "1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := m.write(&b, form); err != nil {
			t.Fatal(err)
		}
		text[i] = b.String()
	}
	samples := func(text string) (l []string) {
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") {
				l = append(l, line)
			}
		}
		return l
	}
	if d := cmp.Diff(samples(text[0]), samples(text[1])); d != "" {
		t.Errorf("the forms have different samples (-OpenMetrics +Prometheus)\n%s", d)
	}
	clitest.Golden(t, "prometheus.txt", text[1])
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"--nosuch"}, {"now"}} {
		if r := clitest.Run(App(), clitest.World{}, args...); r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("metrics %q: status %d, opened %v, %q", args, r.Status, r.Opened, r.Out)
		}
	}
	r := clitest.Run(App(), clitest.World{Stack: &clitest.Stack{ListErr: syscall.EPERM}})
	if r.Status != cli.ExitFailed || r.Out != "" || !strings.Contains(r.Err, "not permitted") {
		t.Errorf("metrics without rights: status %d, %q, printed %q", r.Status, r.Err, r.Out)
	}
}

// A parted is a stack with many SAs and eroutes, which it lists in parts. It uses the memory
// of a part again for the next one.
type parted struct {
	klips.Stack
	sas, eroutes int
	reads        int // of each table
	broken       int // the part of the SAs that cannot be read, from 1
}

const partLen = 7

func (p *parted) SAParts(context.Context) iter.Seq2[[]klips.SA, error] {
	return func(yield func([]klips.SA, error) bool) {
		p.reads++
		part, next, drops := make([]klips.SA, 0, partLen), make([]klips.SAID, 1), drop.Counts{}
		for i := 0; i < p.sas; i += partLen {
			part = part[:0]
			for n := i; n < min(i+partLen, p.sas); n++ {
				id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: klips.SPI(0x1000 + n), Proto: klips.ProtoESP}
				next[0], drops["bad-icv"] = id, uint64(n)
				part = append(part, klips.SA{ID: id, State: klips.Mature, Next: next, Drops: drops, Life: klips.Life{Bytes: klips.Counter{Count: uint64(n)}}})
			}
			if p.broken > 0 && i/partLen+1 == p.broken {
				yield(nil, &klips.OpError{Op: "list SAs", Err: syscall.EPERM})
				return
			}
			if !yield(part, nil) {
				return
			}
			clear(drops)
		}
	}
}

func (p *parted) ErouteParts(context.Context) iter.Seq2[[]klips.Eroute, error] {
	return func(yield func([]klips.Eroute, error) bool) {
		also := make([]klips.SAID, 1)
		for i := range p.eroutes {
			src := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
			also[0].SPI = klips.SPI(i)
			e := klips.Eroute{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x1000, Proto: klips.ProtoTun}, Also: also,
				Selector: klips.Selector{Src: src, Dst: netip.MustParsePrefix("0.0.0.0/0")}, Packets: uint64(i)}
			if !yield([]klips.Eroute{e}, nil) {
				return
			}
		}
	}
}

// TestLongTables: a table that is kept and one that is read again for each family are written
// alike.
func TestLongTables(t *testing.T) {
	for _, n := range []int{0, 1, partLen, 40} {
		var texts []string
		for _, keep := range []int{0, max(n-1, 0), n, 1000} {
			p := &parted{Stack: serial.New(&clitest.Stack{}), sas: n, eroutes: n}
			m, err := read(t.Context(), p, "1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			m.sas.keep, m.eroutes.keep = keep, keep
			var b bytes.Buffer
			if err := m.write(&b, openmetrics.OpenMetrics); err != nil {
				t.Fatal(err)
			}
			texts = append(texts, b.String())
			want := 1
			if n > keep {
				want = len(saFamilies()) + 1 // and the numbers
			}
			if p.reads != want {
				t.Errorf("%d SAs, of which %d are kept: read %d times, want %d", n, keep, p.reads, want)
			}
			if got := len(slices.Concat(m.sas.kept...)); got > keep {
				t.Errorf("%d SAs: %d are kept, want at most %d", n, got, keep)
			}
		}
		families, err := scrape.Parse(texts[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts[1:] {
			if d := cmp.Diff(texts[0], text); d != "" {
				t.Errorf("%d rows: kept and not kept differ\n%s", n, d)
			}
		}
		for _, name := range []string{"ipsec_sa_bytes_total", "ipsec_eroute_packets_total"} {
			if got := scrape.Samples(families, name, nil); len(got) != n || n > 0 && got[n-1].Value != fmt.Sprint(n-1) {
				t.Errorf("%s: %d samples of %d", name, len(got), n)
			}
		}
	}
}

// TestBroken: if a later part cannot be read, the error is that of the stack, and the text
// has no end.
func TestBroken(t *testing.T) {
	r := clitest.Run(App(), clitest.World{Wrap: func(s *clitest.Stack) klips.Stack {
		return &parted{Stack: serial.New(s), sas: 40, broken: 3}
	}})
	if want := "ipsec metrics: SAs: cannot be listed: not permitted"; r.Status != cli.ExitFailed || !strings.HasPrefix(r.Err, want) || strings.Contains(r.Out, "# EOF") {
		t.Errorf("status %d, %q, want %q, printed\n%s", r.Status, r.Err, want, r.Out)
	}
}

// TestOutputError: after an error of the output no table is read again.
func TestOutputError(t *testing.T) {
	p := &parted{Stack: serial.New(&clitest.Stack{}), sas: 40}
	m, err := read(t.Context(), p, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	m.sas.keep = 0
	r, w := io.Pipe()
	r.CloseWithError(errors.New("nobody reads"))
	if err := m.write(w, openmetrics.OpenMetrics); err == nil || err.Error() != "nobody reads" || p.reads > 1 {
		t.Errorf("%v after %d reads", err, p.reads)
	}
}

// TestDrops: the reasons of a stack are used, or else the counters of errors. The counts of
// SAs that check packets are there from the beginning.
func TestDrops(t *testing.T) {
	l, err := (&clitest.Full{}).SAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in := l[slices.IndexFunc(l, func(s klips.SA) bool { return s.Window == 64 })]
	of := func(change func(*klips.SA)) drop.Counts {
		s := in
		s.Drops, s.AuthErrs, s.ReplayErrs, s.PadErrs, s.SizeErrs = nil, 0, 0, 0, 0
		change(&s)
		row := newSA(&s)
		return saDrops(&row)
	}
	for _, c := range []struct {
		change func(*klips.SA)
		want   drop.Counts
	}{
		{func(s *klips.SA) {}, drop.Counts{"bad-icv": 0, "replayed": 0}},
		{func(s *klips.SA) { s.Window = 0 }, drop.Counts{"bad-icv": 0}},
		{func(s *klips.SA) { s.Transform = klips.Transform{} }, drop.Counts{"replayed": 0}},
		{func(s *klips.SA) { s.Dir = klips.Outbound }, drop.Counts{}},
		{func(s *klips.SA) { s.ID.Proto = klips.ProtoTun }, drop.Counts{}},
		{func(s *klips.SA) { s.AuthErrs, s.ReplayErrs, s.PadErrs, s.SizeErrs = 1, 2, 3, 4 },
			drop.Counts{"bad-icv": 1, "replayed": 2, "bad-padding": 3, "bad-packet": 4}},
		{func(s *klips.SA) { s.AuthErrs, s.Drops = 1, drop.Counts{"bad-icv": 1, "too-old": 5} },
			drop.Counts{"bad-icv": 1, "replayed": 0, "too-old": 5}},
	} {
		if got := of(c.change); !maps.Equal(got, c.want) {
			t.Errorf("drops %v, want %v", got, c.want)
		}
	}
	if _, err := scrape.Parse(clitest.Run(App(), world(&strange{})).Out); err != nil {
		t.Errorf("names of devices with any bytes: %v", err)
	}
}

// A strange has devices with names that need escapes.
type strange struct{ clitest.Full }

func (*strange) Eroutes(context.Context) ([]klips.Eroute, error) { return nil, nil }
func (*strange) Devices(context.Context) ([]klips.Device, error) {
	return []klips.Device{{Name: "a\"b\\c"}, {Name: "\x1b[2J\xff"}, {Name: "x\ny"}}, nil
}

// TestIdle: times are whole seconds, rounded down, and never negative.
func TestIdle(t *testing.T) {
	for idle, want := range map[time.Duration]string{-time.Second: "0", 1999 * time.Millisecond: "1"} {
		var b bytes.Buffer
		m := &tables{sas: rows[klips.SA, sa]{kept: [][]sa{{{state: klips.Mature, used: true, idle: idle}}}, size: short}, eroutes: rows[klips.Eroute, eroute]{size: short}}
		if err := m.write(&b, openmetrics.OpenMetrics); err != nil {
			t.Fatal(err)
		}
		families, err := scrape.Parse(b.String())
		if got := scrape.Samples(families, "ipsec_sa_idle_seconds", nil); err != nil || len(got) != 1 || got[0].Value != want {
			t.Errorf("idle for %v: %v, %v, want %s", idle, got, err, want)
		}
	}
}

package look

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/manpages"
)

func said(t *testing.T, text string) klips.SAID {
	t.Helper()
	id, err := syntax.ParseSAID(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func eroute(t *testing.T, src, dst, id string) klips.Eroute {
	return klips.Eroute{ID: said(t, id), Selector: klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}}
}

func TestWrite(t *testing.T) {
	tun, esp := said(t, "tun0x100@192.0.2.2"), said(t, "esp0x101@192.0.2.2")
	web := eroute(t, "10.1.0.0/24", "10.2.0.0/24", "tun0x100@192.0.2.2")
	web.Proto, web.DstPort, web.Packets = 6, 80, 7
	spread := eroute(t, "10.1.0.0/24", "10.3.0.0/24", "tun0x999@192.0.2.2")
	spread.Also = []klips.SAID{tun, said(t, "tun0x998@192.0.2.2")}
	v := view{
		Stack: "xfrm", Host: "gw1", Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Eroutes: []klips.Eroute{
			eroute(t, "fd01::/64", "fd02::/64", "%drop"),
			eroute(t, "10.1.0.0/24", "10.10.0.0/24", "%pass"),
			web,
			eroute(t, "10.1.0.0/24", "10.2.0.0/24", "tun0x100@192.0.2.2"),
			spread,
			eroute(t, "10.1.0.0/16", "10.2.0.0/24", "esp0x101@192.0.2.2"),
		},
		Devices: []klips.Device{
			{Name: "ipsec0", Physical: "eth0", MTU: 16260, AttMTU: 1500, PhysMTU: 1400,
				Stats: klips.DeviceStats{TxPackets: 1, TxBytes: 2, TxErrors: 3, TxDropped: 4, RxPackets: 5, RxBytes: 6, RxErrors: 7, RxDropped: 8},
				Drops: drop.Counts{"no-eroute": 2, "bad-icv": 9}},
			{Name: "ipsec1", Drops: drop.Counts{"detached": 5}}, // never used
			{Name: "ipsec2", MTU: 16260},                        // detached
		},
		SAs: []klips.SA{
			{ID: tun, Src: netip.MustParseAddr("192.0.2.1"), Next: []klips.SAID{esp}, State: klips.Mature},
			{ID: esp, Src: netip.MustParseAddr("192.0.2.1"), State: klips.Mature, Drops: drop.Counts{"too-old": 1}},
		},
		Drops:   drop.Counts{"not-esp": 3},
		Foreign: []string{"a state of another program"},
		Routes:  []routes.Route{{Dst: netip.MustParsePrefix("10.2.0.0/24"), Device: "ipsec0"}},
	}
	var b bytes.Buffer
	if err := v.write(&b); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.Index(line, ": dir="); i >= 0 {
			line = line[:i] // procfs has tests of its own
		}
		got = append(got, line)
	}
	want := []string{
		"gw1 Wed Mar  4 05:06:07 UTC 2026",
		"10.1.0.0/16        -> 10.2.0.0/24        => esp0x101@192.0.2.2  (0)",
		"10.1.0.0/24        -> 10.2.0.0/24:80     => tun0x100@192.0.2.2:6 (7)",
		"10.1.0.0/24        -> 10.2.0.0/24        => tun0x100@192.0.2.2 esp0x101@192.0.2.2  (0)",
		"10.1.0.0/24        -> 10.3.0.0/24        => tun0x999@192.0.2.2 (0) also tun0x100@192.0.2.2 esp0x101@192.0.2.2 also tun0x998@192.0.2.2",
		"10.1.0.0/24        -> 10.10.0.0/24       => %pass (0)",
		"fd01::/64          -> fd02::/64          => %drop (0)",
		"ipsec0->eth0 mtu=16260(1500)->1400",
		"ipsec2->NULL mtu=16260(0)->0",
		"esp0x101@192.0.2.2 ESP",
		"tun0x100@192.0.2.2 IPIP",
		"MADE BY OTHER PROGRAMS",
		"a state of another program",
		"ROUTING TABLES",
		"10.2.0.0/24 dev ipsec0",
		"STATISTICS",
		"ipsec0 tx packets=1 bytes=2 errors=3 dropped=4 rx packets=5 bytes=6 errors=7 dropped=8",
		"ipsec0 drops bad-icv=9 no-eroute=2",
		"ipsec2 tx packets=0 bytes=0 errors=0 dropped=0 rx packets=0 bytes=0 errors=0 dropped=0",
		"esp0x101@192.0.2.2 drops too-old=1",
		"other drops not-esp=3",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestWriteEmpty: an empty stack has only headings.
func TestWriteEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := (&view{Host: "h", Time: time.Unix(0, 0).UTC()}).write(&b); err != nil {
		t.Fatal(err)
	}
	if want := "h Thu Jan  1 00:00:00 UTC 1970\nROUTING TABLES\nSTATISTICS\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestRun(t *testing.T) {
	s := &clitest.Stack{}
	r := clitest.Run(App(), clitest.World{Stack: s}, "--json")
	v, err := manpages.ReadJSON("look", []byte(r.Out))
	if err != nil || r.Status != 0 || r.Err != "" {
		t.Fatalf("look --json: status %d, %v, %s", r.Status, err, r.Err)
	}
	if v["stack"] != "klips" || s.Closed != 1 || !slices.Equal(s.Lists, []string{"eroute", "spi", "tncfg"}) {
		t.Errorf("stack %v, closed %d times, lists %q", v["stack"], s.Closed, s.Lists)
	}
	if r = clitest.Run(App(), clitest.World{}); r.Status != 0 || !strings.Contains(r.Out, "\nROUTING TABLES\n") || !strings.Contains(r.Out, "\nSTATISTICS\n") {
		t.Errorf("look: status %d, %q", r.Status, r.Out)
	}
	for _, args := range [][]string{
		{"--nosuch"}, {"now"}, {"--watch", "0"}, {"--watch", "now"}, {"--watch", "1", "2"}, {"--watch", "--json"}, {"--json", "3"},
	} {
		if r := clitest.Run(App(), clitest.World{}, args...); r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("look %q: status %d, opened %v, %q", args, r.Status, r.Opened, r.Out)
		}
	}
}

// TestWatch: everything is printed again and again, from a stack that is opened each time. A
// file of commands cannot have an option that never ends.
func TestWatch(t *testing.T) {
	opened, s := 0, &clitest.Stack{}
	env := &cli.Env{Name: "ipsec look", Err: io.Discard, Stack: func(context.Context) (klips.Stack, error) { opened++; return serial.New(s), nil }}
	r, w := io.Pipe()
	env.Out = w
	cmd, err := command(env, []string{"--watch", "0.1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cmd.Run(ctx, env); w.Close() }()
	texts := 0
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if lines.Text() == "STATISTICS" {
			texts++
		}
		if texts == 3 {
			cancel()
		}
	}
	cancel()
	if err := <-done; err != nil || texts < 3 || opened < texts || s.Closed != opened {
		t.Errorf("%v; %d texts, the stack was opened %d times and closed %d times", err, texts, opened, s.Closed)
	}
	env.Later = func(string, cli.Check) {}
	if _, err := command(env, []string{"--watch"}); err == nil || err.Error() != "--watch has no end; leave it out of a file of commands" {
		t.Errorf("look --watch in a file: %v", err)
	}
}

// TestGolden: the JSON of a view with records in each part, and of an empty one.
func TestGolden(t *testing.T) {
	s := &clitest.Full{}
	full, err := read(t.Context(), serial.New(s))
	if err != nil {
		t.Fatal(err)
	}
	full.Host, full.Time = "gw1", time.Date(2026, 3, 4, 5, 6, 7, 800000000, time.UTC)
	full.Foreign = []string{"a state of another program"}
	full.Routes = []routes.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.9"), Device: "eth0", Src: netip.MustParseAddr("192.0.2.1"), Metric: 5},
		{Dst: netip.MustParsePrefix("fd02::/64")},
	}
	for name, v := range map[string]view{"full": full, "empty": {Stack: "user", Host: "gw1", Time: full.Time}} {
		var out bytes.Buffer
		if err := output.Print(&cli.Env{Out: &out}, v.json()); err != nil {
			t.Fatal(err)
		}
		clitest.GoldenJSON(t, "look", name, out.String())
	}
}

// A broken is a stack with one table that cannot be read.
type broken struct {
	clitest.Stack
	table string
}

func (s *broken) fail(table string) error {
	if s.table == table {
		return &klips.OpError{Op: "list", Err: syscall.EPERM}
	}
	return nil
}

func (s *broken) Eroutes(context.Context) ([]klips.Eroute, error) { return nil, s.fail("eroutes") }
func (s *broken) SAs(context.Context) ([]klips.SA, error)         { return nil, s.fail("SAs") }
func (s *broken) Devices(context.Context) ([]klips.Device, error) { return nil, s.fail("devices") }
func (s *broken) Foreign(context.Context) ([]string, error) {
	return nil, s.fail("what other programs have made")
}

// TestBroken: if one table cannot be read, nothing is printed except the reason, in
// words.
func TestBroken(t *testing.T) {
	for _, table := range []string{"eroutes", "SAs", "devices", "what other programs have made"} {
		r := clitest.Run(App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(&broken{table: table}) }})
		if want := "ipsec look: " + table + ": cannot be listed: not permitted; run it as root (CAP_NET_ADMIN is needed)\n"; r.Err != want || r.Out != "" || r.Status != cli.ExitFailed {
			t.Errorf("status %d, %q, %q, want %q", r.Status, r.Out, r.Err, want)
		}
	}
}

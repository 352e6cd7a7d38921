package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestParse(t *testing.T) {
	type chosen struct {
		Rounds                  int
		Window                  time.Duration
		Parts, Rows, Contenders string
		JSON                    string
	}
	const allRows, allContenders = "tcp1,cpu,tcp4,both,tcp6,udp,ping,rss", "clear,wireguard,strongswan,udp,raw,direct,cbc,ah,xfrm"
	for _, c := range []struct {
		args string
		want chosen
	}{
		{"", chosen{3, time.Second, "packets,tables,listing,start", allRows, allContenders, ""}},
		{"-rounds 5 -seconds 0.5 -json x", chosen{5, 500 * time.Millisecond, "packets,tables,listing,start", allRows, allContenders, "x"}},
		{"-only start,packets -rows ping,tcp1 -contenders raw,wireguard,raw", chosen{3, time.Second, "packets,start", "tcp1,ping", "wireguard,raw", ""}},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		if err != nil {
			t.Errorf("parse(%q): %v", c.args, err)
			continue
		}
		got := chosen{o.rounds, o.window, words(o.parts, strings.Clone), words(o.rows, row.word), words(o.contenders, contender.word), o.json}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("parse(%q): -want +got\n%s", c.args, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for args, want := range map[string]string{
		"now":                `unexpected argument "now"`,
		"-rounds 0":          "-rounds 0: at least one round is needed",
		"-seconds 0":         "-seconds 0 is not between 0.1 and 600",
		"-seconds NaN":       "-seconds NaN is not between 0.1 and 600",
		"-only wire":         `-only: unknown word "wire"; choose from packets,tables,listing,start`,
		"-rows tcp1,tcp9":    `-rows: unknown word "tcp9"; choose from tcp1,cpu,tcp4,both,tcp6,udp,ping,rss`,
		"-contenders raw,,":  `-contenders: unknown word ""; choose from clear,wireguard,strongswan,udp,raw,direct,cbc,ah,xfrm`,
		"-speed":             "flag provided but not defined: -speed",
		"-rounds many":       `invalid value "many" for flag -rounds: parse error`,
		"-contenders swan -": `unexpected argument "-"`,
	} {
		if o, err := parse(strings.Fields(args), io.Discard); err == nil || err.Error() != want {
			t.Errorf("parse(%q) = %+v, %v, want %s", args, o, err, want)
		}
	}
	var help bytes.Buffer
	if _, err := parse([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-contenders") {
		t.Errorf("parse(-help) = %v, and wrote %s", err, &help)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{
		{[]float64{4}, 4},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{8, 2, 4, 1}, 3},
	} {
		before := append([]float64(nil), c.v...)
		if got := median(c.v); got != c.want || !cmp.Equal(before, c.v) {
			t.Errorf("median(%v) = %v, want %v; after it: %v", before, got, c.want, c.v)
		}
	}
}

// TestSummarize: a ratio is the median of the ratios within the rounds, which is not the
// ratio of the medians. Rounds in which wireguard-go has nothing do not count.
func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		rounds, base          []float64
		median, least, most   float64
		ratio                 float64
		compared              bool
		ratioOfMediansDiffers bool
	}{
		{[]float64{10, 2, 30}, []float64{5, 4, 10}, 10, 2, 30, 2, true, false},
		{[]float64{10, 12, 90}, []float64{1, 6, 30}, 12, 10, 90, 3, true, true},
		{[]float64{1, 2}, []float64{0, 4}, 1.5, 1, 2, 0.5, true, true},
		{[]float64{1, 2}, []float64{0, 0}, 1.5, 1, 2, 0, false, false},
		{[]float64{7}, nil, 7, 7, 7, 0, false, false},
	} {
		s := series{Rounds: c.rounds}
		s.summarize(c.base)
		if s.Median != c.median || s.Min != c.least || s.Max != c.most {
			t.Errorf("%v: median %v, min %v, max %v, want %v, %v, %v", c.rounds, s.Median, s.Min, s.Max, c.median, c.least, c.most)
		}
		if (s.Ratio != nil) != c.compared || s.Ratio != nil && *s.Ratio != c.ratio {
			t.Errorf("ratio of %v to %v = %v, want %v (%t)", c.rounds, c.base, s.Ratio, c.ratio, c.compared)
		}
		if c.compared && (s.Median/median(c.base) != c.ratio) != c.ratioOfMediansDiffers {
			t.Errorf("%v to %v: the ratio of the medians is %v, and the case expects otherwise", c.rounds, c.base, s.Median/median(c.base))
		}
	}
}

// example returns rounds of two rows: wireguard-go and another contender have daemons, a
// third does without.
func example() []series {
	rs := []row{{"tcp1", "TCP, one stream", "Gbit/s"}, {"rss", "memory of the larger daemon (less is better)", "MiB"}}
	ways := []openWay{
		{contender: contender{key: "clear", name: "no tunnel"}},
		{contender: contender{key: baseline, name: "wireguard-go"}},
		{contender: contender{key: "udp", name: "tun+esp aes128-gcm in UDP"}},
	}
	at := func(clear, wg, udp, wgRSS, udpRSS float64) round {
		return round{{"tcp1", "clear"}: clear, {"tcp1", baseline}: wg, {"tcp1", "udp"}: udp, {"rss", baseline}: wgRSS, {"rss", "udp"}: udpRSS}
	}
	return collect(rs, ways, []round{at(16, 1, 2, 200, 10), at(20, 1.25, 0.5, 250, 12.5), at(15, 2, 5, 100, 25)})
}

func TestTable(t *testing.T) {
	var got bytes.Buffer
	printTable(&got, example())
	golden := filepath.Join("testdata", "table.golden")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("-want +got\n%s\nIf that is meant: go test ./testscripts/bench -run TestTable -update", d)
	}
	got.Reset()
	if printTable(&got, nil); got.Len() != 0 {
		t.Errorf("the table of nothing is %q", &got)
	}
}

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.0512: "0.051", 1: "1.00", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 105569: "105569"} {
		if got := digits(v); got != want {
			t.Errorf("digits(%v) = %s, want %s", v, got, want)
		}
	}
}

// TestJSON: what -json writes is read back without a loss.
func TestJSON(t *testing.T) {
	want := result{Machine: "a machine", CPUs: 2, Go: "go", Linux: "6.1", Packets: example(), Figures: []figure{{"look-ups", 8.5, "ns"}, {"start", 1.25, ""}}}
	file := filepath.Join(t.TempDir(), "figures.json")
	if err := want.write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got result
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if want.write(filepath.Join(file, "below-a-file")) == nil {
		t.Error("no error for a file that cannot be made")
	}
}

// TestHighest: the search finds the highest good step from every start, and needs few
// probes if it starts beside it.
func TestHighest(t *testing.T) {
	const n = rateSteps
	for top := -1; top < n; top++ {
		for start := range n {
			probes := 0
			got, err := highest(n, start, func(step int) (bool, error) {
				probes++
				if step < 0 || step >= n {
					t.Fatalf("probes the step %d of %d", step, n)
				}
				return step <= top, nil
			})
			if got != top || err != nil {
				t.Fatalf("highest of %d from %d = %d, %v, want %d", n, start, got, err, top)
			}
			if most := map[bool]int{true: 2, false: 14}[start == top]; probes > most {
				t.Fatalf("%d probes from %d to %d, want at most %d", probes, start, top, most)
			}
		}
	}
	if _, err := highest(n, 3, func(int) (bool, error) { return true, io.EOF }); err != io.EOF {
		t.Errorf("error of a probe = %v, want %v", err, io.EOF)
	}
}

func TestRates(t *testing.T) {
	for step := range rateSteps {
		if got := stepOf(rateOf(step)); got != step {
			t.Errorf("stepOf(rateOf(%d)) = %d", step, got)
		}
	}
	if rateOf(rateSteps-1) < 1e6 || rateOf(rateSteps-2) > 1e6 {
		t.Errorf("the last rates are %v and %v, want them around a million", rateOf(rateSteps-2), rateOf(rateSteps-1))
	}
	for rate, want := range map[float64]int{0: 0, 1: 0, 1e9: rateSteps - 1} {
		if got := stepOf(rate); got != want {
			t.Errorf("stepOf(%v) = %d, want %d", rate, got, want)
		}
	}
}

func TestStatTime(t *testing.T) {
	const after = " S 1 2 3 4 5 6 7 8 9 10 250 175 11 12 20"
	for _, name := range []string{"ipsec", "a (b) c"} {
		if got, err := statTime("77 (" + name + ")" + after); err != nil || got != 4250*time.Millisecond {
			t.Errorf("%s: %v, %v, want 4.25 s", name, got, err)
		}
	}
	for _, bad := range []string{"", "77 (ipsec) S 1 2", "77 (ipsec)" + strings.Replace(after, "175", "x", 1)} {
		if got, err := statTime(bad); err == nil {
			t.Errorf("statTime(%q) = %v, want an error", bad, got)
		}
	}
}

// bench measures the version of WireGuard that the tests compare packets with.
func TestWireGuardVersion(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", wireguard).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if got := strings.TrimSpace(string(out)); got != wireguardVersion {
		t.Errorf("bench builds version %s, and go.mod names %s", wireguardVersion, got)
	}
}

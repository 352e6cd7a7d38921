package algs

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/serial"
)

// A kernel is a stack whose algorithms depend on its kernel.
type kernel struct {
	clitest.Full
	name string
	err  error
}

func (k *kernel) Name() string { return k.name }

func (k *kernel) Probe(context.Context) ([]klips.Ability, error) {
	of := func(t klips.Transform, name, missing string) klips.Ability {
		return klips.Ability{Name: name, Missing: missing, Algorithm: t}
	}
	if k.err != nil || k.name == "user" {
		return nil, k.err
	}
	return []klips.Ability{
		{Name: "esp over IPv4"},
		{Name: "ah over IPv4", Missing: "module ah4"},
		of(klips.Transform{Comp: alg.Deflate}, "comp over IPv4", ""),
		of(klips.Transform{Comp: alg.Deflate}, "comp over IPv6", "module ipcomp6"),
		of(klips.Transform{Enc: alg.AES}, "cbc(aes)", ""),
		of(klips.Transform{Enc: alg.TripleDES}, "cbc(des3_ede)", "modules of these names"),
		of(klips.Transform{Auth: alg.SHA1}, "hmac(sha1) with 96 bits", ""),
	}, nil
}

func world(k *kernel) clitest.World {
	return clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(k) }}
}

var speedDigits = regexp.MustCompile(`(second": |: |, )\d+( MB/s|(,?\n))`)

// masked replaces the speeds, which are those of the machine of the test.
func masked(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "megabytes") || strings.Contains(line, "MB/s") {
			line = speedDigits.ReplaceAllString(line, "${1}0$2")
		}
		b.WriteString(line)
	}
	return b.String()
}

// TestGolden: the whole list, for a stack whose kernel lacks some algorithms, for stack
// user and without a stack.
func TestGolden(t *testing.T) {
	none := clitest.World{StackErr: errors.New("none here")}
	for name, c := range map[string]struct {
		w    clitest.World
		args []string
	}{
		"kernel": {world(&kernel{name: "xfrm"}), nil},
		"user":   {world(&kernel{name: "user"}), []string{"--bench"}},
		"none":   {none, []string{"aes", "sha1"}},
		"denied": {world(&kernel{name: "xfrm", err: errors.New("interrupted")}), []string{"aes"}},
	} {
		r := clitest.Run(App(), c.w, c.args...)
		if r.Status != 0 || r.Err != "" {
			t.Errorf("%s: status %d, %s", name, r.Status, r.Err)
		}
		clitest.Golden(t, name+".txt", masked(r.Out))
		r = clitest.Run(App(), c.w, append(c.args, "--json")...)
		clitest.GoldenJSON(t, "algs", name, masked(r.Out))
	}
}

// TestNames: each name of each program finds its algorithm.
func TestNames(t *testing.T) {
	for _, tr := range transforms() {
		for _, n := range names(tr) {
			found := false
			for _, got := range find(strings.ToUpper(n)) {
				found = found || got == tr
			}
			if !found {
				t.Errorf("find(%q) = %v, want %v among them", n, find(n), tr)
			}
		}
	}
	for _, c := range []struct {
		name string
		want []string
	}{
		{"aes128-sha1", []string{"aes", "hmac-sha1"}},
		{"AES_GCM_C-128", []string{"aes-gcm"}},
		{"hmac-sha2_512", []string{"hmac-sha2-512"}},
		{"rfc4868", []string{"hmac-sha2-256", "hmac-sha2-384", "hmac-sha2-512"}},
		{"hmac(sha256)", []string{"hmac-sha2-256", "hmac-sha2-256-96"}},
		{"rot13", nil},
		{"none", nil},
		{"", nil},
	} {
		var got []string
		for _, tr := range find(c.name) {
			got = append(got, output.NewAlgorithm(tr).Word)
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("find(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"rot13", "no algorithm has the name (5 characters, not shown: it may be part of a key); ipsec algs lists all names"},
		{"aess", "no algorithm has the name aess; did you mean aes?"},
		{"0xfeedfacefeedfacefeedface", "not shown"},
	} {
		r := clitest.Run(App(), clitest.World{}, c.name)
		if r.Status != cli.ExitUsage || r.Opened || r.Out != "" || !strings.Contains(r.Err, c.want) || strings.Contains(r.Err, "feedface") {
			t.Errorf("algs %s: status %d, opened %v, %q, want %q", c.name, r.Status, r.Opened, r.Err, c.want)
		}
	}
}

// TestSpeed: a speed is the bytes of all packets by the time of the clock, and the median
// of the rounds counts.
func TestSpeed(t *testing.T) {
	var at time.Time
	now := func() time.Time { return at }
	calls := 0
	mb, err := speed(func() error { calls++; at = at.Add(share / 4); return nil }, now)
	const want = 17 // 4*32*1400 bytes in 10 ms
	if err != nil || calls != 4 || mb != want {
		t.Errorf("speed = %d, %v after %d calls, want %v after 4", mb, err, calls, want)
	}
	broken := errors.New("broken")
	if _, err := speed(func() error { return broken }, now); err != broken {
		t.Errorf("speed = %v, want %v", err, broken)
	}
	if m := median([]int{9, 1, 5, 100, 2}); m != 5 {
		t.Errorf("median = %d, want 5", m)
	}
}

// TestMeasure: each algorithm that carries packets has a speed for each length of its keys,
// and an interrupt ends the measurement.
func TestMeasure(t *testing.T) {
	var at time.Time
	now := func() time.Time { at = at.Add(share); return at }
	l := transforms()
	speeds, err := measure(t.Context(), l, now)
	if err != nil {
		t.Fatal(err)
	}
	for i, tr := range l {
		want := len(keyLengths(tr))
		if tr.Enc == alg.Null || tr.Comp == alg.LZS {
			want = 0
		}
		if len(speeds[i]) != want {
			t.Errorf("%v: %d speeds, want %d", tr, len(speeds[i]), want)
		}
		for _, s := range speeds[i] {
			const want = 4 // 32*1400 bytes in 10 ms
			if s.SendMegabytesPerSecond != want || s.ReceiveMegabytesPerSecond != want {
				t.Errorf("%v: %+v, want %d MB/s", tr, s, want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measure(ctx, l, now); !errors.Is(err, context.Canceled) {
		t.Errorf("measure = %v after an interrupt", err)
	}
}

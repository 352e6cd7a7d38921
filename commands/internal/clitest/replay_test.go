package clitest_test

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

// reference returns the recording that a recording of the last generation is compared
// with: itself, or an older one that is marked as more sensible.
func reference(t *testing.T, c *recorded.Command, older map[string]*recorded.Command) verdict {
	from := c
	for i := len(c.See) - 1; i >= 0; i-- {
		o, ok := older[c.See[i]]
		if !ok {
			t.Fatalf("%s: no recording %s", c.ID, c.See[i])
		}
		if from == c || o.Exit == 0 {
			from = o
		}
	}
	return verdictOf(t, from)
}

// TestReplay runs all recorded command lines of the last generation. Each difference
// needs a reason.
func TestReplay(t *testing.T) {
	older := map[string]*recorded.Command{}
	for c := range recorded.Commands(t, recorded.Older...) {
		older[c.ID] = c
	}
	g := &golden{newMachine(t), recorded.ProcNet(t)}
	counts := make([]int, len(reasons))
	all, same, bad, skipped := 0, 0, 0, 0
	for c := range recorded.Commands(t, recorded.Libreswan332) {
		all++
		if c.Undefined {
			skipped++
			continue
		}
		d := g.replay(t, c, reference(t, c, older))
		if d == nil {
			same++
			continue
		}
		if n := reasonFor(d); n >= 0 {
			counts[n]++
			continue
		}
		bad++
		t.Errorf("%s (%s): %s %q: accepted %v, want %v; %s%s", c.ID, d.want.Impl, c.Tool, c.Args,
			d.accepted, d.want.accepted, strings.TrimSpace(d.got.Err), d.what)
	}
	t.Logf("%d recordings: %d come out the same, %d differ on purpose, %d differ, %d are undefined", all,
		same, all-same-bad-skipped, bad, skipped)
	for i, r := range reasons {
		t.Logf("%5d %s", counts[i], r.text)
		// A reason must not cover other differences than those that it was written for.
		if counts[i] != r.n {
			t.Errorf("%d recordings differ because %s; want %d", counts[i], r.text, r.n)
		}
	}
}

package clitest_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// reference returns what counts for a recording of the last generation: itself,
// or what it says is saner.
func reference(t *testing.T, r *recording, older map[string]*recording) verdict {
	from := r
	for i := len(r.See) - 1; i >= 0; i-- {
		o, ok := older[r.See[i]]
		if !ok {
			t.Fatalf("%s: no recording %s", r.ID, r.See[i])
		}
		if from == r || o.Exit == 0 {
			from = o
		}
	}
	return verdict{from.Impl, from.Exit == 0, from.messageTexts(t), from.ioctlTexts(t)}
}

// TestReplaySample runs a sample of the recorded command lines.
func TestReplaySample(t *testing.T) {
	cases := readRecordings(t, "testdata/recorded.jsonl")
	if len(cases) < 100 {
		t.Fatalf("%d recordings, want 100 or more", len(cases))
	}
	replayAll(t, cases, "testdata/proc", func(r *recording) verdict {
		return verdict{r.Impl, r.Exit == 0, r.messageTexts(t), r.ioctlTexts(t)}
	})
}

// TestReplay runs all recorded command lines.
func TestReplay(t *testing.T) {
	dir := filepath.Join(repoRoot(t), "..", "shared", "golden")
	cases := readRecordings(t, filepath.Join(dir, "dev.jsonl"))
	olderList := readRecordings(t, filepath.Join(dir, "dev-older.jsonl"))
	older := map[string]*recording{}
	for i := range olderList {
		older[olderList[i].ID] = &olderList[i]
	}
	counts := replayAll(t, cases, filepath.Join(dir, "proc"), func(r *recording) verdict { return reference(t, r, older) })
	for i, r := range reasons {
		// A reason must not cover what it was not made for.
		if counts[i] != r.n {
			t.Errorf("%d recordings differ because %s; want %d", counts[i], r.text, r.n)
		}
	}
}

// replayAll replays recordings and fails for each difference that has no
// reason. It returns how many each reason covers.
func replayAll(t *testing.T, cases []recording, proc string, ref func(*recording) verdict) []int {
	g := &golden{newMachine(t), proc}
	counts := make([]int, len(reasons))
	same, bad, skipped := 0, 0, 0
	for i := range cases {
		r := &cases[i]
		if r.UB {
			skipped++
			continue
		}
		d := g.replay(t, r, ref(r))
		if d == nil {
			same++
			continue
		}
		if n := reasonFor(d); n >= 0 {
			counts[n]++
			continue
		}
		bad++
		t.Errorf("%s (%s, %s): %s %q: accepted %v, want %v; %s%s", r.ID, d.want.impl, r.Note, r.Tool, r.Args,
			d.accepted, d.want.accepted, strings.TrimSpace(d.got.Err), d.what)
	}
	t.Logf("%d recordings: %d come out the same, %d differ on purpose, %d differ, %d are undefined", len(cases),
		same, len(cases)-same-bad-skipped, bad, skipped)
	for n, count := range counts {
		if count > 0 {
			t.Logf("%5d %s", count, reasons[n].text)
		}
	}
	return counts
}

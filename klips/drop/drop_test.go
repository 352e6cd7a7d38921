package drop

import (
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Every reason has its own word and a meaning of one line.
func TestTable(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]Reason{}
	for _, r := range All() {
		if !word.MatchString(r.String()) {
			t.Errorf("reason %d has the word %q", r, r)
		}
		if was, ok := seen[r.String()]; ok {
			t.Errorf("reasons %d and %d have the same word %q", was, r, r)
		}
		seen[r.String()] = r
		if m := r.Meaning(); m == "" || strings.ContainsRune(m, '\n') || strings.HasSuffix(m, ".") {
			t.Errorf("%v means %q", r, m)
		}
		if f := r.RFC(); f != "" && !strings.HasPrefix(f, "RFC ") {
			t.Errorf("%v is of %q", r, f)
		}
		if got, ok := Parse(r.String()); !ok || got != r {
			t.Errorf("Parse(%q) = %d, %v, want %d", r, got, ok, r)
		}
	}
	if len(seen) != int(numReasons)-1 {
		t.Errorf("%d reasons, want %d", len(seen), numReasons-1)
	}
	for _, w := range []string{"", "nonsense"} {
		if r, ok := Parse(w); ok {
			t.Errorf("Parse(%q) = %d", w, r)
		}
	}
	if s := Reason(200).String() + Reason(200).Meaning() + Reason(200).RFC() + None.String(); s != "reason-200" {
		t.Errorf("outside the table: %q", s)
	}
}

func TestCounters(t *testing.T) {
	var c Counters
	if got := c.Read(); got != nil || got.String() != "" || got.Total() != 0 {
		t.Errorf("nothing is read as %v", got)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				c.Add(NoSA, 1)
				c.Add(BadICV, 2)
			}
		})
	}
	all.Wait()
	if got, want := c.Read().String(), "bad-icv=8000 no-sa=4000"; got != want {
		t.Errorf("counted %q, want %q", got, want)
	}
	if got := c.Read().Total(); got != 12000 {
		t.Errorf("%d in total, want 12000", got)
	}
	var other Counters
	other.Restore(c.Read())
	other.Restore(Counts{"of-a-later-version": 3})
	other.Add(None, 1)
	other.Add(numReasons, 1)
	if got, want := other.Read().String(), "bad-icv=8000 failed=5 no-sa=4000"; got != want {
		t.Errorf("restored as %q, want %q", got, want)
	}
}

// Counts of a later version survive a pass through an earlier one.
func TestCountsJSON(t *testing.T) {
	const text = `{"a-later-word":7,"bad-icv":1}`
	var c Counts
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(c); err != nil || string(b) != text {
		t.Errorf("%s became %s, %v", text, b, err)
	}
}

// Counting allocates once.
func TestNoAllocations(t *testing.T) {
	var c Counters
	c.Add(NoSA, 1)
	if n := testing.AllocsPerRun(100, func() { c.Add(BadICV, 1) }); n != 0 {
		t.Errorf("Add allocates %v times", n)
	}
}

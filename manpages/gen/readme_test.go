package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readmeLines returns the indented lines of a section of the README.
func readmeLines(t *testing.T, title string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pageDir, "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(text), "## "+title+"\n")
	if !ok {
		t.Fatalf("README.md has no section %s", title)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	for line := range strings.Lines(strings.ReplaceAll(part, " \\\n       ", "")) {
		if c, ok := strings.CutPrefix(line, "    "); ok {
			list = append(list, strings.TrimSpace(c))
		}
	}
	return list
}

// TestReadmeNew: the first tunnel of the README is that of ipsec_new(8), with pings
// without an end, and a command that copies the files.
func TestReadmeNew(t *testing.T) {
	set, err := readExamples(pageDir, "new")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range set.examples {
		for _, s := range e.steps {
			want = append(want, strings.Replace(s.command, "-c 1 -W 2 ", "", 1))
		}
	}
	got := slices.DeleteFunc(readmeLines(t, "A first tunnel"), func(l string) bool { return strings.HasPrefix(l, "scp ") })
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("README.md differs from examples/new.txtar (-example +README):\n%s", d)
	}
}

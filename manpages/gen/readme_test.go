package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadme: the first tunnel of the README is the same as in the tests.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(pageDir, "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(text), "## A first tunnel by hand\n")
	if !ok {
		t.Fatal("README.md has no first tunnel")
	}
	part, _, _ = strings.Cut(part, "\n## ")
	var got []string
	for line := range strings.Lines(strings.ReplaceAll(part, " \\\n       ", "")) {
		if c, ok := strings.CutPrefix(line, "    "); ok {
			got = append(got, strings.TrimSpace(c))
		}
	}

	set, err := readExamples(pageDir, "tunnel")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range set.examples {
		for _, s := range e.steps {
			if !strings.HasPrefix(s.command, "ping ") && s.output == "" {
				want = append(want, s.command)
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("README.md differs from examples/tunnel.txtar (-example +README):\n%s", d)
	}
}

package main

import (
	"os"
	"path/filepath"
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

// TestReadmeUp: the first tunnel of the README is that of ipsec_up(8).
func TestReadmeUp(t *testing.T) {
	set, err := readExamples(pageDir, "up")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range set.examples {
		for _, s := range e.steps {
			switch {
			case s.output != "": // the file
				for line := range strings.Lines(set.files[s.output]) {
					want = append(want, strings.TrimSpace(line))
				}
			default:
				want = append(want, strings.Replace(s.command, "--config net.conf ", "", 1))
			}
		}
	}
	if d := cmp.Diff(want, readmeLines(t, "A first tunnel")); d != "" {
		t.Errorf("README.md differs from examples/up.txtar (-example +README):\n%s", d)
	}
}

// TestReadme: the first tunnel by hand of the README is the same as in the tests.
func TestReadme(t *testing.T) {
	got := readmeLines(t, "A first tunnel by hand")
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

package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHelpPage: if man has the page, help shows it. If man or the page is missing, or
// man only prints that pages are not installed, help prints the usage text.
func TestHelpPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "ipsec_spi.8")
	if err := os.WriteFile(page, []byte("page"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script string // content of man; empty: no man
		status int
		out    string
	}{
		"page":      {`if [ "$1 $2 $3" = "-w 8 ipsec_spi" ]; then echo ` + page + `; else echo "page of $2 in $1"; fi`, 0, "page of ipsec_spi in 8\n"},
		"no page":   {`echo "No manual entry" >&2; exit 16`, 0, "Usage:\n  ipsec spi"},
		"stand-in":  {`echo "This system has been minimized"`, 0, "Usage:\n  ipsec spi"},
		"no man":    {"", 0, "Usage:\n  ipsec spi"},
		"man fails": {`if [ "$1" = "-w" ]; then echo ` + page + `; else exit 3; fi`, 1, ""},
	} {
		dir := t.TempDir()
		if c.script != "" {
			if err := os.WriteFile(filepath.Join(dir, "man"), []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir)
		for _, applet := range []string{"spi", "ipsec_spi"} {
			r := call(nil, "ipsec", "help", applet)
			if r.status != c.status || !strings.Contains(r.out, c.out) || (r.err != "") != (c.status != 0) {
				t.Errorf("%s: help %s: status %d, %q, %q, want %d, %q", name, applet, r.status, r.out, r.err, c.status, c.out)
			}
		}
	}
}

// TestElsewhere: the words of other programs are no applets, and what they stand for begins
// with one.
func TestElsewhere(t *testing.T) {
	for _, e := range elsewhere {
		if find(e.word) != nil {
			t.Errorf("%s is an applet", e.word)
		}
		words := strings.Fields(e.command)
		if len(words) < 2 || words[0] != "ipsec" || find(words[1]) == nil {
			t.Errorf("%s stands for %s, which begins with no applet", e.word, e.command)
		}
	}
}

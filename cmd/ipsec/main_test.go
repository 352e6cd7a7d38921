package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips/klipstest/skip"
)

// repo is the root of the repository, seen from this directory.
const repo = "../.."

// build makes the program as make build does and returns its path.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		skip.Without(t, skip.Long, "building the program takes a while")
	}
	skip.WithoutProgram(t, skip.Make)
	bin := t.TempDir()
	makeTarget(t, "build", "BIN="+bin)
	return filepath.Join(bin, "ipsec")
}

func makeTarget(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("make", append([]string{"-s", "-C", repo}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, out)
	}
}

// TestInstall installs into a directory of its own, uses what is there, and
// removes it.
func TestInstall(t *testing.T) {
	bin := build(t)
	dest := t.TempDir()
	vars := []string{"BIN=" + filepath.Dir(bin), "DESTDIR=" + dest, "PREFIX=/usr", "VERSION=9.8.7"}
	stranger := filepath.Join(dest, "usr/sbin/ipsec_stranger")
	if err := os.MkdirAll(filepath.Dir(stranger), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stranger, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	makeTarget(t, append([]string{"install"}, vars...)...)
	makeTarget(t, append([]string{"install"}, vars...)...) // once more is no error

	names, err := exec.Command(filepath.Join(dest, "usr/sbin/ipsec"), "help", "--names").Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(strings.Fields(string(names))) < 10 {
		t.Errorf("ipsec help --names: %q", names)
	}
	for _, name := range strings.Fields(string(names)) {
		link := filepath.Join(dest, "usr/sbin/ipsec_"+name)
		out, err := exec.Command(link, "--help").Output()
		if err != nil || !strings.HasPrefix(string(out), "ipsec_"+name+": ") {
			t.Errorf("%s --help: %v, %q", link, err, out)
		}
	}
	out, err := exec.Command(filepath.Join(dest, "usr/sbin/ipsec"), "--version").Output()
	if err != nil || string(out) != "ipsec 9.8.7\n" {
		t.Errorf("ipsec --version: %v, %q", err, out)
	}
	pages, err := filepath.Glob(repo + "/manpages/*.[58]")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		installed := filepath.Join(dest, "usr/share/man/man"+page[len(page)-1:], filepath.Base(page))
		if _, err := os.Stat(installed); err != nil {
			t.Errorf("the page is not there: %v", err)
		}
	}
	for _, file := range []string{
		"bash-completion/completions/ipsec", "bash-completion/completions/ipsec_spigrp",
		"zsh/site-functions/_ipsec", "fish/vendor_completions.d/ipsec.fish",
	} {
		if info, err := os.Stat(filepath.Join(dest, "usr/share", file)); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v", file, err)
		}
	}

	makeTarget(t, append([]string{"uninstall"}, vars...)...)
	var left []string
	err = filepath.WalkDir(dest, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || !slices.Equal(left, []string{stranger}) {
		t.Errorf("after uninstall there is %q, %v, want only what was not installed", left, err)
	}
}

// TestBashCompletion runs the script for bash in bash, as it is when somebody
// presses the tab key.
func TestBashCompletion(t *testing.T) {
	bash := skip.WithoutProgram(t, skip.Bash)
	bin := build(t)
	script, err := exec.Command(bin, "completion", "bash").Output()
	if err != nil {
		t.Fatal(err)
	}
	// _init_completion is the bash-completion package's; this stands in for it.
	const driver = `
_init_completion() { cur=${COMP_WORDS[COMP_CWORD]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
_get_comp_words_by_ref() { _init_completion; }
compopt() { :; }
COMP_TYPE=9
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
__start_ipsec
printf '%s\n' "${COMPREPLY[@]}"
`
	link := filepath.Join(filepath.Dir(bin), "ipsec_spi")
	if err := os.Symlink("ipsec", link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{bin, "spig"}, "spigrp"},
		{[]string{bin, "spi", "--repl"}, "--replay_window"},
		{[]string{link, "--comp", "d"}, "deflate"},
	} {
		cmd := exec.Command(bash, append([]string{"--norc", "-c", string(script) + driver, "bash"}, c.words...)...)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != c.want {
			t.Errorf("%q: %v, completed to %q, want %q", c.words, err, out, c.want)
		}
	}
}

// TestStartup guards the cost of each start: work at package initialisation
// and the size of the program.
func TestStartup(t *testing.T) {
	bin := build(t)
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(13 << 19); info.Size() > most {
		t.Errorf("the program has %d bytes, want at most %d", info.Size(), most)
	}
	// Times on a busy machine are too long, never too short: the best counts.
	line := regexp.MustCompile(`^init (\S+) @\S+ ms, ([0-9.]+) ms clock`)
	best, slowest := time.Hour, ""
	for range 10 {
		cmd := exec.Command(bin, "spigrp", "--version")
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		sum, packages, trace := time.Duration(0), 0, ""
		for l := range strings.Lines(stderr.String()) {
			m := line.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			packages++
			if !strings.Contains(m[1], ".") { // the standard library's
				continue
			}
			ms, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(ms * float64(time.Millisecond))
			trace += l
		}
		if packages == 0 {
			t.Fatalf("no trace of initialisation in %q", stderr.String())
		}
		if sum < best {
			best, slowest = sum, trace
		}
	}
	if limit := 300 * time.Microsecond; best > limit {
		t.Errorf("packages outside the standard library take %v at start-up, want at most %v:\n%s", best, limit, slowest)
	}
}

// TestImports keeps packages out that cost start-up time or size, or that only
// tests may use.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	reasons := map[string]string{
		"net/http":                        "half a millisecond at start-up",
		"crypto/tls":                      "0.2 ms at start-up",
		"github.com/google/gopacket":      "5 ms at start-up",
		"github.com/gopacket/gopacket":    "0.6 ms at start-up",
		"github.com/google/go-cmp/cmp":    "for tests only",
		"pgregory.net/rapid":              "for tests only",
		"testing":                         "for tests only",
		"github.com/rogpeppe/go-internal": "for tests only",
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for pkg, why := range reasons {
			if dep == pkg || strings.HasPrefix(dep, pkg+"/") {
				t.Errorf("the program imports %s: %s", dep, why)
			}
		}
	}
}

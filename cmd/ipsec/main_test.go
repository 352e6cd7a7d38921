package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// repo is the root of the repository, relative to this directory.
const repo = "../.."

// build builds the program with make build and the given make variables, and returns
// its path.
func build(t *testing.T, vars ...string) string {
	t.Helper()
	if testing.Short() {
		skip.Without(t, skip.Long, "building the program takes a while")
	}
	skip.WithoutProgram(t, skip.Make)
	bin := t.TempDir()
	cmd := exec.Command("make", append([]string{"-s", "-C", repo, "build", "BIN=" + bin}, vars...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	return filepath.Join(bin, "ipsec")
}

// TestInstall installs the program into a new directory, uses the installed files, and
// removes them. PATH has only the programs that an installation needs: root often has
// no Go.
func TestInstall(t *testing.T) {
	bin := filepath.Dir(build(t, "VERSION=9.8.7"))
	dest, path := t.TempDir(), t.TempDir()
	for _, tool := range []string{"make", "sh", "install", "chmod", "ln", "readlink", "rm", "sed"} {
		file, err := exec.LookPath(tool)
		if err == nil {
			err = os.Symlink(file, filepath.Join(path, tool))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	makeThere := func(args ...string) (string, error) {
		cmd := exec.Command("make", append([]string{"-s", "-C", repo, "DESTDIR=" + dest, "PREFIX=/usr"}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+path)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := makeThere("install", "BIN="+t.TempDir()); err == nil || !strings.Contains(out, "run make build first") {
		t.Errorf("make install where nothing was built: %v, %q", err, out)
	}
	if left, _ := os.ReadDir(dest); len(left) > 0 {
		t.Errorf("an installation that failed has made %v", left)
	}
	stranger := filepath.Join(dest, "usr/sbin/ipsec_stranger")
	if err := os.MkdirAll(filepath.Dir(stranger), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stranger, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second installation is not an error
		if out, err := makeThere("install", "BIN="+bin); err != nil || out != "" {
			t.Fatalf("make install: %v\n%s", err, out)
		}
	}
	if made, err := os.ReadDir(bin); err != nil || len(made) != 1 {
		t.Errorf("beside the built program there is %v, %v", made, err)
	}

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
	pages, err := filepath.Glob(repo + "/manpages/*.[578]")
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
		"bash-completion/completions/ipsec", "bash-completion/completions/ipsec_spigrp", "zsh/site-functions/_ipsec",
		"fish/vendor_completions.d/ipsec.fish", "fish/vendor_completions.d/ipsec_spigrp.fish",
	} {
		if info, err := os.Stat(filepath.Join(dest, "usr/share", file)); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v", file, err)
		}
	}

	if unit, err := os.ReadFile(filepath.Join(dest, "usr/lib/systemd/system/ipsec.service")); err != nil || !strings.Contains(string(unit), "\nExecStart=!/usr/sbin/ipsec klipsd\n") {
		t.Errorf("ipsec.service: %v, it does not start /usr/sbin/ipsec:\n%s", err, unit)
	}
	if users, err := os.ReadFile(filepath.Join(dest, "usr/lib/sysusers.d/ipsec-klips.conf")); err != nil || !strings.Contains(string(users), "\nu _ipsec ") {
		t.Errorf("ipsec-klips.conf: %v, it does not make the user:\n%s", err, users)
	}
	for _, file := range []string{"prometheus/ipsec.rules.yml", "grafana/ipsec.json"} {
		want, err := os.ReadFile(filepath.Join(repo, "packages", file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dest, "usr/share/doc/ipsec-klips/examples", file)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v, it is not that of the repository", file, err)
		}
	}

	if out, err := makeThere("uninstall"); err != nil || out != "" {
		t.Errorf("make uninstall: %v\n%s", err, out)
	}
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

// TestBashCompletion runs the bash completion script in bash, as a press of the tab key
// does.
func TestBashCompletion(t *testing.T) {
	bash := skip.WithoutProgram(t, skip.Bash)
	bin := build(t)
	script, err := exec.Command(bin, "completion", "bash").Output()
	if err != nil {
		t.Fatal(err)
	}
	// _init_completion belongs to the package bash-completion; this replaces it.
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
		{[]string{bin, "spi", "--replay_"}, "--replay_window"},
		{[]string{bin, "spigrp", "--j"}, "--json"},
		{[]string{link, "--comp", "d"}, "deflate"},
	} {
		cmd := exec.Command(bash, append([]string{"--norc", "-c", string(script) + driver, "bash"}, c.words...)...)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != c.want {
			t.Errorf("%q: %v, completed to %q, want %q", c.words, err, out, c.want)
		}
	}
}

// TestFishCompletion installs the program and asks fish for completions, as a press of
// the tab key does. fish finds the scripts itself.
func TestFishCompletion(t *testing.T) {
	fish := skip.WithoutProgram(t, skip.Fish)
	bin := filepath.Dir(build(t))
	dest := t.TempDir()
	install := exec.Command("make", "-s", "-C", repo, "install", "BIN="+bin, "DESTDIR="+dest, "PREFIX=/usr")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for line, want := range map[string]string{
		"ipsec spig":          "spigrp",
		"ipsec spi --comp d":  "deflate",
		"ipsec_spi --replay_": "--replay_window",
		"ipsec tncfg --j":     "--json",
		"ipsec_spi --comp d":  "deflate",
	} {
		cmd := exec.Command(fish, "--no-config", "-c", "complete -C $argv[1]", line)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "PATH="+dest+"/usr/sbin:"+os.Getenv("PATH"))
		// Without its configuration fish has no list of completion folders.
		cmd.Args[3] = "set fish_complete_path " + dest + "/usr/share/fish/vendor_completions.d; " + cmd.Args[3]
		out, err := cmd.CombinedOutput()
		if got, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\t"); err != nil || got != want {
			t.Errorf("%q: %v, completed to %q, want %q", line, err, out, want)
		}
	}
}

// TestStartup limits the cost of each start: the work of package initialisation and the
// size of the program.
func TestStartup(t *testing.T) {
	bin := build(t)
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(12 << 20); info.Size() > most {
		t.Errorf("the program has %d bytes, want at most %d", info.Size(), most)
	}
	// The memory that initialisation allocates is the same in every run; the time is
	// not. make bench compares the time with that of an empty program.
	cmd := exec.Command(bin, "spigrp", "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^init (\S+) .* (\d+) bytes, (\d+) allocs$`)
	var packages, bytes, allocs int
	for _, m := range line.FindAllStringSubmatch(stderr.String(), -1) {
		if !strings.Contains(m[1], ".") { // a package of the standard library
			continue
		}
		b, errB := strconv.Atoi(m[2])
		a, errA := strconv.Atoi(m[3])
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		packages, bytes, allocs = packages+1, bytes+b, allocs+a
	}
	t.Logf("%d packages outside the standard library have work at start-up: %d bytes, %d allocations", packages, bytes, allocs)
	if packages == 0 {
		t.Fatalf("no trace of initialisation in %q", stderr.String())
	}
	if packages > 22 || bytes > 48<<10 || allocs > 124 {
		t.Errorf("%d packages allocate %d bytes in %d pieces, want at most 22, 49152 and 124:\n%s", packages, bytes, allocs, &stderr)
	}
}

// TestImports: the program does not import packages that cost start-up time or size, or
// that are only for tests.
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
		"golang.zx2c4.com/wireguard":      "for tests only",
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for pkg, why := range reasons {
			if dep == pkg || strings.HasPrefix(dep, pkg+"/") {
				t.Errorf("the program imports %s: %s", dep, why)
			}
		}
	}
}

package testscripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTestDeps runs the script of make test-deps with replacements for Debian's
// programs. The script must print what it will install before it does so, install
// nothing that exists, and print what it could not get.
func TestTestDeps(t *testing.T) {
	const all = "echo 'install ok installed'"
	for _, c := range []struct {
		name               string
		id, dpkg, apt      string // shell code of these programs
		kernel             bool   // the kernel is unpacked already
		stdout, stderr     []string
		calls, neverCalled string
	}{
		{"all is there", "echo 0", all, "", true, nil, nil, "", "apt-get"},
		{"not root", "echo 1000", "exit 1", "", false, nil, nil, "", "apt-get"},
		{"tshark is missing", "echo 0", `[ "$4" = tshark ] || ` + all, "", true,
			[]string{"test-deps: installing for the tests (DEPS=no leaves it out): tshark\n"}, nil, "install -y --no-install-recommends tshark\nservices are not started\n", "qemu"},
		{"no network", "echo 0", "exit 1", "echo 'Temporary failure resolving' >&2; exit 100", false,
			[]string{"installing for the tests", "unpacking a kernel for the tests into ", "unpacking a newer kernel into "},
			[]string{"Temporary failure resolving", "test-deps: apt-get installed nothing; without it tests are skipped", "test-deps: no kernel could be fetched; without it", "test-deps: no newer kernel could be fetched; without it"},
			"update\n", "download"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin, kernel := t.TempDir(), t.TempDir()
			log := filepath.Join(bin, "log")
			for name, text := range map[string]string{
				"id":         c.id,
				"dpkg-query": c.dpkg,
				"apt-get":    "echo apt-get $* >>" + log + "\n[ -x $TEST_DEPS_POLICY ] && echo services are not started >>" + log + "\n" + c.apt,
				"apt-cache":  "exit 100",
			} {
				if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.kernel {
				for _, dir := range []string{"boot/vmlinuz-1", "newer/boot/vmlinuz-2"} {
					if err := os.MkdirAll(filepath.Join(kernel, dir), 0o755); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd := exec.Command("/bin/sh", "deps")
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "IPSEC_TEST_KERNEL=" + kernel, "TMPDIR=" + t.TempDir(), "TEST_DEPS_POLICY=" + filepath.Join(bin, "policy")}
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: the tests themselves judge what is missing", err)
			}
			for got, want := range map[*strings.Builder][]string{&stdout: c.stdout, &stderr: c.stderr} {
				for _, w := range want {
					if !strings.Contains(got.String(), w) {
						t.Errorf("it prints %q, want %q in it", got, w)
					}
				}
				if want == nil && got.Len() > 0 {
					t.Errorf("it prints %q, want nothing", got)
				}
			}
			if _, err := os.Stat(filepath.Join(bin, "policy")); err == nil {
				t.Error("the policy for services stays")
			}
			calls, _ := os.ReadFile(log)
			if !strings.Contains(string(calls), c.calls) || strings.Contains(string(calls), c.neverCalled) {
				t.Errorf("calls of apt-get:\n%swant %q in them, and not %q", calls, c.calls, c.neverCalled)
			}
		})
	}
}

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	const list = "FuzzB\nFuzzA\nok  \texample.org/x\t0.01s\n" +
		"?   \texample.org/none\t[no test files]\n" +
		"ok  \texample.org/without\t0.01s\n" +
		"FuzzC\nok  \texample.org/x/y\t(cached)\n"
	want := []target{{"example.org/x", "FuzzB"}, {"example.org/x", "FuzzA"}, {"example.org/x/y", "FuzzC"}}
	if got := targets(list); !slices.Equal(got, want) {
		t.Errorf("targets = %v, want %v", got, want)
	}
}

func TestExecutions(t *testing.T) {
	for out, want := range map[string]string{
		"": "0",
		"fuzz: elapsed: 0s, gathering baseline coverage: 0/9 completed\nfuzz: elapsed: 3s, execs: 11 (4/sec), new interesting: 0 (total: 9)\n" +
			"fuzz: elapsed: 6s, execs: 235 (75/sec), new interesting: 1 (total: 10)\nPASS\n": "235",
	} {
		if got := string(executions([]byte(out))); got != want {
			t.Errorf("executions(%q) = %s, want %s", out, got, want)
		}
	}
}

// TestRun: all targets of a module run until one fails; the error names it.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.org/m\n\ngo 1.26\n",
		"a/a_test.go": "package a\n\nimport \"testing\"\n\nfunc FuzzRight(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, b []byte) {})\n}\n",
		"b/b_test.go": "package b\n\nimport \"testing\"\n\nfunc FuzzWrong(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, b []byte) {\n\t\tif len(b) > 0 {\n\t\t\tt.Error(\"some bytes\")\n\t\t}\n\t})\n}\n",
		"c/c_test.go": "package c\n\nimport \"testing\"\n\nfunc FuzzAfter(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, b []byte) {})\n}\n",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		only      string
		out, fail []string
	}{
		{"", []string{"example.org/m/a.FuzzRight", " inputs\n", "some bytes"}, []string{"example.org/m/b.FuzzWrong: exit status 1"}},
		{"FuzzRight", []string{"nothing found by 1 targets\n"}, nil},
		{"FuzzNone", nil, []string{"there is no such target"}},
	} {
		r := runner{time: "1000x", only: regexp.MustCompile(c.only), parallel: 1, goTool: "go", dir: dir}
		var out bytes.Buffer
		err := r.run(t.Context(), &out, nil)
		if (err != nil) != (c.fail != nil) {
			t.Errorf("%q: %v\n%s", c.only, err, &out)
			continue
		}
		for _, s := range c.out {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%q: %q is missing in\n%s", c.only, s, &out)
			}
		}
		for _, s := range c.fail {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v, want %q", c.only, err, s)
			}
		}
		if c.only == "" && strings.Contains(out.String(), "FuzzAfter") {
			t.Errorf("a target is run after one that failed:\n%s", &out)
		}
	}
}

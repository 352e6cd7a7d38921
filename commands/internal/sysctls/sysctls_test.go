package sysctls

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kernel makes parameters for a test.
func kernel(t *testing.T, values map[string]string) (rundir string) {
	root = t.TempDir()
	t.Cleanup(func() { root = "/proc/sys" })
	for name, value := range values {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(t.TempDir(), "run")
}

func is(t *testing.T, when string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name := range want {
		v, err := get(name)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = v
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", when, d)
	}
}

func empty(t *testing.T, rundir string) {
	t.Helper()
	if l, err := os.ReadDir(rundir); len(l) != 0 {
		t.Errorf("left: %v, %v", l, err)
	}
}

// A parameter gets its first value back, whatever files have set it in the meantime.
func TestPutBack(t *testing.T) {
	rundir := kernel(t, map[string]string{"a/x": "0", "a/y": "1", "z": "2"})
	for _, l := range [][]Setting{
		{{"a/x", "1"}, {"a/y", "1"}, {"z", "0"}}, {{"a/x", "1"}}, {{"a/x", "2"}},
	} {
		if err := Set(rundir, l); err != nil {
			t.Fatal(err)
		}
	}
	is(t, "set", map[string]string{"a/x": "2", "a/y": "1", "z": "0"})
	if err := put("z", "5"); err != nil { // somebody else
		t.Fatal(err)
	}
	if err := put("a/y", "7"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := PutBack(rundir); err != nil {
			t.Fatal(err)
		}
		is(t, "put back", map[string]string{"a/x": "0", "a/y": "7", "z": "5"})
		empty(t, rundir)
	}
}

// If one cannot be set, none is.
func TestAllOrNone(t *testing.T) {
	rundir := kernel(t, map[string]string{"x": "0"})
	if err := os.Mkdir(filepath.Join(root, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"dir", "none"} {
		if err := Set(rundir, []Setting{{"x", "1"}, {bad, "1"}}); err == nil {
			t.Errorf("%s can be set", bad)
		}
		is(t, "refused", map[string]string{"x": "0"})
		if l, _ := os.ReadDir(rundir); len(l) != 0 {
			t.Errorf("left: %v", l)
		}
	}
}

// A damaged file changes nothing, and is named.
func TestDamaged(t *testing.T) {
	rundir := kernel(t, map[string]string{"x": "0"})
	if err := Set(rundir, []Setting{{"x", "1"}}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(rundir, directory, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: %q, %v, want one", files, err)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := PutBack(rundir); err == nil {
		t.Error("PutBack accepts it")
	}
	if err := Set(rundir, []Setting{{"x", "2"}}); err == nil {
		t.Error("Set accepts it")
	}
	is(t, "refused", map[string]string{"x": "1"})
}

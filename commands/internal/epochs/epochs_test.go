package epochs

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An epoch only grows, and others stay.
func TestRaise(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if list, err := Read(dir); len(list) != 0 || err != nil {
		t.Fatal(list, err)
	}
	for _, s := range []struct {
		name  string
		epoch uint32
	}{{"net", 3}, {"other", 1}, {"net", 2}, {"net", 1<<32 - 1}, {"net", 4}} {
		if err := Raise(dir, s.name, s.epoch); err != nil {
			t.Fatal(err)
		}
	}
	list, err := Read(dir)
	if want := (List{"net": 1<<32 - 1, "other": 1}); err != nil || !maps.Equal(list, want) {
		t.Errorf("%v, %v; want %v", list, err, want)
	}
	if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A damaged file is not taken for an empty one: an earlier key would come back.
func TestDamaged(t *testing.T) {
	for _, text := range []string{"", "{", "[]", "null", `{"net":-1}`, `{"net":4294967296}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := Read(dir); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("%q: %v, %v", text, list, err)
		}
		if err := Raise(dir, "net", 9); err == nil {
			t.Errorf("%q: it was replaced", text)
		}
	}
}

// A link that the daemon's user has put in the place of a file is not followed.
func TestLinks(t *testing.T) {
	for _, name := range []string{file, file + ".new"} {
		dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte(`{"net":7}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		err := Raise(dir, "net", 9)
		if text, _ := os.ReadFile(victim); string(text) != `{"net":7}` {
			t.Errorf("%s: the file behind the link has %s (%v)", name, text, err)
		}
	}
}

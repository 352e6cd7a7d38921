package keyfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite: files are made all or none, and only --force overwrites.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) File { return File{filepath.Join(dir, name), []byte(text)} }
	content := func() string {
		var b strings.Builder
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			text, _ := os.ReadFile(filepath.Join(dir, e.Name()))
			b.WriteString(e.Name() + "=" + string(text) + " ")
		}
		return b.String()
	}
	if err := Write([]File{file("b", "1"), file("c", "2")}, false); err != nil || content() != "b=1 c=2 " {
		t.Errorf("%v, %s", err, content())
	}
	if err := Write([]File{file("a", "3"), file("b", "4"), file("c", "5")}, false); !errors.Is(err, fs.ErrExist) || content() != "b=1 c=2 " {
		t.Errorf("one exists: %v, %s", err, content())
	}
	if err := Write([]File{file("a", "3"), file("b", "4")}, true); err != nil || content() != "a=3 b=4 c=2 " {
		t.Errorf("overwritten: %v, %s", err, content())
	}
	// The last one cannot be made: it is a folder.
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write([]File{file("a", "6"), file("0", "7"), file("d", "8")}, true); err == nil || content() != "a=3 b=4 c=2 d= " {
		t.Errorf("failed: %v, %s", err, content())
	}
	if err := Write([]File{file("a", "6"), file("none/x", "7")}, true); err == nil || content() != "a=3 b=4 c=2 d= " {
		t.Errorf("failed: %v, %s", err, content())
	}
}

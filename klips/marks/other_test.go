package marks

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file beside the marks is read as it was written, and the marks stay.
func TestOther(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := ReadFile(dir, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	for _, text := range []string{"one", ""} {
		if err := ReplaceFile(dir, "other", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFile(dir, "other"); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := ReadFile(dir, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// What another user may have put in the place of a file is refused, and nothing waits for
// it.
func TestOtherRefused(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(dir, "other"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a named pipe: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	var bad *DirError
	if _, err := ReadFile(dir, "other"); !errors.As(err, &bad) {
		t.Errorf("a directory of all: %v", err)
	}
	if err := ReplaceFile(dir, "other", nil); !errors.As(err, &bad) {
		t.Errorf("a directory of all: %v", err)
	}
}

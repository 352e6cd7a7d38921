package classic_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
)

// modprobe writes a script to use instead of modprobe, and the file that names it.
func modprobe(t *testing.T, script string) (file, args string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "modprobe")
	args = filepath.Join(dir, "args")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" \"$MODPROBE_OPTIONS\" >"+args+"\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte(program+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, args
}

func TestLoad(t *testing.T) {
	t.Setenv("MODPROBE_OPTIONS", "--the-callers")
	file, args := modprobe(t, "")
	if err := classic.LoadBy(t.Context(), file, true); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(args); strings.TrimSpace(string(got)) != "-- ipsec" || err != nil {
		t.Errorf("modprobe was called with %q, %v", got, err)
	}
}

func TestLoadFails(t *testing.T) {
	fails, _ := modprobe(t, "echo 'modprobe: FATAL: Module ipsec not found.' >&2\necho more\nexit 1\n")
	silent, _ := modprobe(t, "exit 3\n")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file string
		root       bool
		fault      klips.Fault
		words      string
		is         error
	}{
		{"not root", fails, false, klips.FaultLoadRights, "only root", fs.ErrPermission},
		{"no module", fails, true, klips.FaultLoad, "cannot be loaded: modprobe: FATAL: Module ipsec not found.", nil},
		{"silent", silent, true, klips.FaultLoad, "exit status 3", nil},
		{"switched off", empty, true, klips.FaultNoModules, "names no program", fs.ErrNotExist},
		{"no modules", filepath.Join(t.TempDir(), "none"), true, klips.FaultNoModules, "names no program", fs.ErrNotExist},
	} {
		err := classic.LoadBy(t.Context(), tt.file, tt.root)
		var u *klips.UnavailableError
		var exit *exec.ExitError
		if !errors.As(err, &u) || u.Fault != tt.fault || !strings.Contains(u.Error(), tt.words) || strings.Contains(u.Error(), "\n") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.words)
		}
		if tt.is != nil && !errors.Is(err, tt.is) || tt.is == nil && !errors.As(err, &exit) {
			t.Errorf("%s: %v is not %v", tt.name, err, tt.is)
		}
	}
}

func TestRegistered(t *testing.T) {
	const heading = "satype   socket   pid       sk\n"
	for text, want := range map[string]bool{
		heading: false,
		"":      false,
		heading + "     2 00000000f7a1     0 00000000c0de\n     3 00000000f7a1     0 00000000c0de\n": true,
	} {
		if got, err := withFiles(t, map[string]string{"pf_key_registered": text}).Registered(t.Context()); got != want || err != nil {
			t.Errorf("Registered with %q = %v, %v", text, got, err)
		}
	}
	if got, err := withFiles(t, nil).Registered(t.Context()); got || err != nil {
		t.Errorf("Registered without the table = %v, %v", got, err)
	}
}

package classic_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
)

// knobDir makes a directory to use instead of /proc/sys/net/ipsec.
func knobDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"icmp": "0\n", "inbound_policy_check": "1\n", "tos": "1\n", "debug_esp": "0\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// state returns the stack's list and the content of the files.
func state(t *testing.T, s *classic.Stack, dir string) string {
	t.Helper()
	list, err := s.Knobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, k := range list {
		text, err := os.ReadFile(filepath.Join(dir, k.Name))
		if err != nil || string(text) != fmt.Sprintf("%d\n", k.Value) {
			t.Errorf("%s is listed as %d, and its file holds %q, %v", k.Name, k.Value, text, err)
		}
		words = append(words, fmt.Sprintf("%s=%d", k.Name, k.Value))
	}
	return strings.Join(words, " ")
}

func TestKnobs(t *testing.T) {
	dir := knobDir(t)
	s := classic.New(classic.Machine{ProcSys: dir})
	const first = "icmp=0 inbound_policy_check=1 tos=1"
	if got := state(t, s, dir); got != first {
		t.Errorf("listed %s, want %s", got, first)
	}
	if err := s.Set(t.Context(), map[string]int{"icmp": 1, "tos": 0}); err != nil {
		t.Fatal(err)
	}
	const second = "icmp=1 inbound_policy_check=1 tos=0"
	if got := state(t, s, dir); got != second {
		t.Errorf("listed %s, want %s", got, second)
	}
	for _, tt := range []struct {
		set  map[string]int
		want error
	}{
		{map[string]int{"icmp": 0, "debug_esp": 1}, syscall.ENOENT},
		{map[string]int{"icmp": 0, "../tos": 1}, syscall.ENOENT},
		{map[string]int{"icmp": 0, "inbound_policy_required": 1}, syscall.ENOENT},
		{map[string]int{"icmp": 0, "tos": 2}, syscall.EINVAL},
	} {
		var oe *klips.OpError
		if err := s.Set(t.Context(), tt.set); !errors.Is(err, tt.want) || !errors.As(err, &oe) || oe.Object == "icmp" {
			t.Errorf("Set %v = %v, want %v", tt.set, err, tt.want)
		}
		if got := state(t, s, dir); got != second {
			t.Errorf("after Set %v: %s, want %s", tt.set, got, second)
		}
	}
}

// If a knob cannot be written, those before it are set back.
func TestKnobsTakenBack(t *testing.T) {
	dir := knobDir(t)
	s := classic.New(classic.Machine{ProcSys: dir})
	// A knob that accepts no value from any user: a full device.
	if err := os.Remove(filepath.Join(dir, "tos")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(dir, "tos")); err != nil {
		t.Fatal(err)
	}
	err := s.Set(t.Context(), map[string]int{"icmp": 1, "inbound_policy_check": 0, "tos": 0})
	var oe *klips.OpError
	if !errors.As(err, &oe) || !errors.Is(err, syscall.ENOSPC) || oe.Object != "tos" || oe.Left != "" {
		t.Errorf("Set = %v, want ENOSPC about tos", err)
	}
	for name, want := range map[string]string{"icmp": "0\n", "inbound_policy_check": "1\n"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); string(text) != want || err != nil {
			t.Errorf("%s holds %q, want %q", name, text, want)
		}
	}
}

func TestNoKnobs(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "none")} {
		s := classic.New(classic.Machine{ProcSys: dir})
		if l, err := s.Knobs(t.Context()); l != nil || err != nil {
			t.Errorf("Knobs of %q = %v, %v", dir, l, err)
		}
		if err := s.Set(t.Context(), map[string]int{"tos": 0}); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Set in %q = %v, want ENOENT", dir, err)
		}
	}
}

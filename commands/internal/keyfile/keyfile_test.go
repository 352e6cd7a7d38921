package keyfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoad checks keys, and the text about modes that let others in.
// A key file of another user is not private, whatever its mode.
func TestOwner(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.key")
	if err := os.WriteFile(name, []byte("0x01020304\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return // only root can give files away
	}
	if err := os.Chown(name, 4711, 0); err != nil {
		t.Fatal(err)
	}
	if _, exposed, err := Load(name); err != nil || !strings.Contains(exposed, "belongs to another user") {
		t.Errorf("%q, %v", exposed, err)
	}
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.key")
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o700: "",
		0o604: "can be read by others (mode 0604)", 0o622: "can be changed by others (mode 0622)",
	} {
		if err := os.WriteFile(name, []byte("\n 0x0102_03 \r\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = "the key file " + name + " " + want + "; make it private with: chmod 600 " + name
		}
		if key, exposed, err := Load(name); string(key) != "\x01\x02\x03" || exposed != want || err != nil {
			t.Errorf("mode %04o: %x, %q, %v, want %q", mode, key, exposed, err, want)
		}
	}
	if _, _, err := Load(filepath.Dir(name)); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

// TestRead: errors name the text and show nothing of it.
func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "x is empty",
		" \n":              "x is empty",
		"0xfeed\n0xface\n": "the key in x: there is more than one line",
		"0xfeedface0\n":    "the key in x: odd number of hex digits",
		"feedface\n":       "the key in x: must begin with 0x",
		"0x" + strings.Repeat("feed_", maxText/5+1): "x is longer than a key can be (16384 bytes)",
	} {
		key, err := Read(strings.NewReader(text), "x")
		if key != nil || err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "feed") {
			t.Errorf("%.20q: %x, %v, want %s", text, key, err, want)
		}
	}
}

func TestFormat(t *testing.T) {
	key := []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xff}
	if got, want := string(Format(key, false)), "0x01234567_89abcdef_ff\n"; got != want {
		t.Errorf("Format = %q, want %q", got, want)
	}
	if got, want := string(Format(key[:8], false)), "0x01234567_89abcdef\n"; got != want {
		t.Errorf("Format = %q, want %q", got, want)
	}
	if got, want := string(Format(key, true)), "0x0123456789abcdefff\n"; got != want {
		t.Errorf("Format = %q, want %q", got, want)
	}
}

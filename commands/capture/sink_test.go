package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/render/rendertest"
	"github.com/klips-go/ipsec/klips"
)

// A file is for its owner only, and an old one is overwritten only with --force.
func TestCreate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := create(name, false); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("over an old file: %v", err)
	}
	for _, n := range []string{name, name + "2"} {
		f, err := create(n, true)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if info, err := os.Stat(n); err != nil || info.Mode() != 0o600 || info.Size() != 0 {
			t.Errorf("%s: %v, %v", n, info, err)
		}
	}
	// Whoever has the old file open, or has made the link, does not get what is written.
	dir := t.TempDir()
	old, link, victim := filepath.Join(dir, "old"), filepath.Join(dir, "link"), filepath.Join(dir, "victim")
	for _, n := range []string{old, victim} {
		if err := os.WriteFile(n, []byte("before"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, n := range []string{old, link} {
		f, err := create(n, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("secret"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if b, err := os.ReadFile(n); err != nil || string(b) != "secret" {
			t.Errorf("%s: %q, %v", n, b, err)
		}
		if info, err := os.Lstat(n); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", n, info, err)
		}
	}
	if b, err := io.ReadAll(open); err != nil || string(b) != "before" {
		t.Errorf("the old file has %q, %v", b, err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "before" {
		t.Errorf("the file behind the link has %q, %v", b, err)
	}
	if l, err := os.ReadDir(dir); err != nil || len(l) != 3 {
		t.Errorf("left in the directory: %v, %v", l, err)
	}
	if f, err := create("/dev/null", true); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if _, err := create(filepath.Join(name, "y"), false); err == nil || strings.Count(err.Error(), name) != 1 {
		t.Errorf("in a file: %v", err)
	}
}

// A device that comes again is another interface of the file, and errors name the file.
func TestFileSink(t *testing.T) {
	var b bytes.Buffer
	s, err := newFileSink(&b, nil, "x", "ipsec 1.2.3", 100)
	if err != nil {
		t.Fatal(err)
	}
	begun := b.Len()
	for _, p := range packets()[:2] {
		for _, index := range []int{3, 3, 7} {
			p.index = index
			if err := s.write(p, "a comment"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if b.Len() != begun {
		t.Error("packets are written one by one")
	}
	if err := s.close(); err != nil || len(s.interfaces) != 2 || bytes.Count(b.Bytes(), []byte("a comment")) != 6 {
		t.Errorf("%v, interfaces %v, %q", err, s.interfaces, b.Bytes())
	}
	if _, err := newFileSink(failing{}, nil, "the file", "ipsec", 1); err == nil || err.Error() != "the file: short write" {
		t.Errorf("error %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// The file of keys has each SA once, and one that is made again, with its new keys.
func TestKeyFile(t *testing.T) {
	h := rendertest.NewHost(gw1)
	add := func(spi, key string) {
		h.Do(t, "spi --said esp"+spi+"@192.0.2.2 --src 192.0.2.1 --esp null-sha1 --authkey 0x"+strings.Repeat(key, 20))
	}
	var notes bytes.Buffer
	name := filepath.Join(t.TempDir(), "x.esp_sa")
	k, err := newKeyFile(&cli.Env{Err: &notes}, name, false)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	step := func(want ...string) {
		t.Helper()
		s, err := h.Snapshot(t.Context(), klips.Want{SAs: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := k.add(context.Background(), h, s); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				got = append(got, line[strings.Index(line, "0x00000"):][:10]+" "+line[strings.LastIndex(line, "0x"):][:4])
			}
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	add("0x100", "a1")
	step("0x00000100 0xa1")
	add("0x101", "a2")
	step("0x00000100 0xa1", "0x00000101 0xa2")
	h.Do(t, "spi --said esp0x100@192.0.2.2 --del")
	step("0x00000100 0xa1", "0x00000101 0xa2")
	add("0x100", "a3")
	step("0x00000100 0xa1", "0x00000101 0xa2", "0x00000100 0xa3")
	if notes.Len() > 0 {
		t.Errorf("notes: %s", &notes)
	}
}

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintEscapes(t *testing.T) {
	long := strings.Repeat("x", 32<<10-1)
	for name, tt := range map[string]struct{ text, want string }{
		"plain":       {"ipsec0 -> eth0\tmtu=1500\nnext\n", "ipsec0 -> eth0\tmtu=1500\nnext\n"},
		"escape":      {"ipsec0 -> \x1b[31meth0\n", `ipsec0 -> \x1b[31meth0` + "\n"},
		"bidi":        {"a\u202eb\n", `a\u202eb` + "\n"},
		"bad UTF-8":   {"a\xffb\xe2\x82", `a\xffb\xe2\x82`},
		"letters":     {"größe €\n", "größe €\n"},
		"return":      {"a\rb\n", `a\rb` + "\n"},
		"at the edge": {long + "€\n", long + "€\n"},
		"beyond 16":   {"\U000e0001", `\udb40\udc01`},
	} {
		var out bytes.Buffer
		if err := Print(&Env{Out: &out}, func(w io.Writer) error { _, err := io.WriteString(w, tt.text); return err }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out.String() != tt.want {
			t.Errorf("%s: printed %.80q, want %.80q", name, out.String(), tt.want)
		}
	}
}

// TestPrintJSON: escaping the output does not change the meaning of JSON.
func TestPrintJSON(t *testing.T) {
	in := []string{"\x1b[0m", "a\u202eb", "\U000e0001", "é\t\n"}
	var out bytes.Buffer
	if err := Print(&Env{Out: &out}, func(w io.Writer) error { return json.NewEncoder(w).Encode(in) }); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Join(got, "|") != strings.Join(in, "|") {
		t.Errorf("%q becomes %q, %v", in, got, err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestPrintFullDisk(t *testing.T) {
	for _, text := range []string{"text\xe2", strings.Repeat("longer than the buffer ", 4<<10)} {
		err := Print(&Env{Out: fullDisk{}}, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
		if err == nil || err.Error() != "standard output: no space left on device" {
			t.Errorf("Print of %d bytes on a full disk = %v", len(text), err)
		}
	}
	broken := errors.New("the table is broken")
	err := Print(&Env{Out: fullDisk{}}, func(w io.Writer) error { _, _ = io.WriteString(w, "text"); return broken })
	if !errors.Is(err, broken) || err.Error() != "standard output: the table is broken\nno space left on device" {
		t.Errorf("Print of what is broken on a full disk = %v", err)
	}
}

func FuzzPrint(f *testing.F) {
	f.Add("plain\n", 3)
	f.Add("\x1b[0m€\xe2\x82", 5)
	f.Fuzz(func(t *testing.T, s string, cut int) {
		var whole, parts bytes.Buffer
		a, b := cleaner{out: &whole}, cleaner{out: &parts}
		a.Write([]byte(s))
		n := 0
		if len(s) > 0 {
			n = int(uint(cut) % uint(len(s)))
		}
		b.Write([]byte(s[:n]))
		b.Write([]byte(s[n:]))
		if err := errors.Join(a.finish(), b.finish()); err != nil {
			t.Fatal(err)
		}
		if whole.String() != parts.String() {
			t.Fatalf("%q cut at %d becomes %q, whole %q", s, n, parts.String(), whole.String())
		}
		for _, r := range whole.String() {
			if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
				t.Fatalf("%q becomes %q", s, whole.String())
			}
		}
		if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) && whole.String() != s {
			t.Fatalf("%q becomes %q", s, whole.String())
		}
	})
}

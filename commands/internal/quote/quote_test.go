package quote_test

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"eth0":                 "eth0",
		"":                     `""`,
		"a b":                  `"a b"`,
		`say "x"`:              `"say \"x\""`,
		"\x1b[31mred":          `"\x1b[31mred"`,
		"a\nb\tc":              `"a\nb\tc"`,
		"\xff\xfe":             `"\xff\xfe"`,
		"abc\u202edef":         `"abc\u202edef"`, // right-to-left override
		"x\u200by":             `"x\u200by"`,     // zero width space
		"a\u0085b":             `"a\u0085b"`,     // a control character of 8 bits
		"größe":                "größe",
		"del\x7f":              `"del\x7f"`,
		`back\slash`:           `back\slash`,
		`back\slash blank `:    `"back\\slash blank "`,
		"\u00a0":               `"\u00a0"`,
		"caf\xe9":              `"caf\xe9"`,
		"tab\there":            `"tab\there"`,
		"nul\x00":              `"nul\x00"`,
		"bell\a":               `"bell\a"`,
		"\u2066isolated\u2069": `"\u2066isolated\u2069"`,
	} {
		if got := quote.Text(text); got != want {
			t.Errorf("Text(%q) = %s, want %s", text, got, want)
		}
	}
	long := strings.Repeat("ü", 100)
	if got, want := quote.Text(long), strings.Repeat("ü", 64)+"..."; got != want {
		t.Errorf("Text of 200 bytes = %s, want %s", got, want)
	}
}

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain text":         "plain text",
		"two\nlines\n":       "two; lines",
		"\x1b[2Jcleared":     `\x1b[2Jcleared`,
		"bad \xff byte":      `bad \xff byte`,
		"bidi \u202e":        `bidi \u202e`,
		"del \x7f":           `del \u007f`,
		"carriage\rreturn":   `carriage\rreturn`,
		`quotes "x" and 'y'`: `quotes "x" and 'y'`,
		"tab\there":          `tab\there`,
		"Grüße":              "Grüße",
	} {
		if got := quote.Line(text); got != want {
			t.Errorf("Line(%q) = %s, want %s", text, got, want)
		}
	}
}

// TestRule is a table of texts that count as keys, and in which places.
func TestRule(t *testing.T) {
	const (
		anywhere = iota // also shown as an unexpected word
		value           // shown as the value of an option
		nowhere         // never shown
	)
	for text, want := range map[string]int{
		// Words that are not keys.
		"inet": anywhere, "inet6": anywhere, "esp": anywhere, "start": anywhere,
		"esp0x100@192.0.2.1": anywhere, "esp.feedface@192.0.2.1": anywhere, "ah:200@2001:db8::1": anywhere,
		"%pass": anywhere, "%trapsubnet": anywhere,
		"192.0.2.1": anywhere, "10.0.0.0/8": anywhere, "2001:db8::1": anywhere, "2001:db8::/32": anywhere,
		"3des-md5-96": anywhere, "hmac-sha2-256-128": anywhere, "aes256-gcm": anywhere, "deflate": anywhere,
		"--json": anywhere, "--ad": anywhere, "foo0x101@192.0.2.2": value, "|": anywhere, "&&": anywhere, "--": anywhere, "--replay_window": anywhere, "--src-port": anywhere,
		"eth0": anywhere, "ipsec63": anywhere, "enp0s31f6": anywhere, "wlp2s0": anywhere, "lo": anywhere, "br0": anywhere,
		"": anywhere,

		// Wrong values that are not keys.
		"gw.example.com": value, "router-2": value, "extra": value, "0x100": value, "512": value, "inet7": value,
		"192.168.1.300": value, "3des-md6": value, "10.0.0.0/33": value, "keys/west.txt": value, "keys": value,
		"soft-bytes=1000": value, "%foo": value, "ESP0x100": value, "%any": value, "*": value, "--authkey": anywhere, "gw1": value, "esp0x12345678@gw.example": value, "TUN.feedface@gw": value, "-": value,

		// Keys and their parts.
		"0xfeedfacefeedfacefeedfacefeedface": nowhere,
		"0Xfeedfacefeedface":                 nowhere,
		"0x40434345_45464649":                nowhere,
		"0sQUJDREVGR0hJSktMTU5PUA==":         nowhere,
		"0tsecret":                           nowhere,
		"0ts":                                nowhere,
		"feedfacefeedfacefeedfacefeedface":   nowhere,
		"FEEDFACE":                           nowhere,
		"45464649494a4a4c":                   nowhere,
		"40434345":                           nowhere,
		"cafef0":                             nowhere,
		"fe:ed:fa:ce:fe:ed:fa:ce":            nowhere, // reads as an IPv6 address
		"feed:face:cafe:f00d:feed:face:cafe:f00d": nowhere,
		"40434345-45464649":                       nowhere,
		"QUJDREVGR0hJSktMTU5PUA==":                nowhere,
		"k3Xb9/QwTz81+aa":                         nowhere,
		"authkey=feedfacefeedface":                nowhere,
		"--authkey=feedface":                      nowhere,
		"--authkey0xfeedfacefeed":                 nowhere,
		"esp0x100@feedfacefeedface":               nowhere,
		"gw-feedfacefeedfacefeedface":             nowhere,
		"feedface/24":                             nowhere, "%feedface": nowhere, "(feedface)": nowhere,
		"fe80::1%feedfacefeedface": nowhere,
	} {
		got := nowhere
		switch {
		case quote.Known(text):
			got = anywhere
		case !quote.MayBeKey(text):
			got = value
		}
		if got != want {
			t.Errorf("%q: got %d, want %d (0: shown anywhere, 1: shown as a value, 2: never shown)", text, got, want)
		}
		if got == nowhere && (strings.Contains(quote.Value(text), text) || strings.Contains(quote.Word(text, 3), text)) {
			t.Errorf("%q is shown: %s, %s", text, quote.Value(text), quote.Word(text, 3))
		}
	}
}

func TestIsKey(t *testing.T) {
	for text, want := range map[string]bool{
		"gw.example.com": false, "facade": false, "deadbeef.example.com": false, "0x100": false, "0session.example": true,
		"feedfacefeedface": true, "0xfeedfacefeedface": true, "0sQUJDREVGR0hJSktMTU5PUA": true, "feedfacefeedface.example.com": true,
	} {
		if got := quote.IsKey(text); got != want {
			t.Errorf("IsKey(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestForms(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{quote.Value("feedface"), "(8 characters, not shown: it may be a key)"},
		{quote.Value("gw1"), "gw1"},
		{quote.Word("feedface", 6), "number 6 (8 characters, not shown: it may be part of a key)"},
		{quote.Word("x", 0), "in the file of --optionsfrom (1 character, not shown: it may be part of a key)"},
		{quote.Word("inet", 6), "inet"},
		{quote.Option("--jsno", true, 1), "--jsno"},
		{quote.Option("--nosuch=0xfeedface", false, 1), "--nosuch"},
		{quote.Option("-authkey=0xfeedface", true, 1), "-authkey"},
		{quote.Option("-deadbeef", false, 2), "at argument 2 (9 characters, not shown: it may be part of a key)"},
		{quote.Option("-x", false, 2), "-x"},
		{quote.Name("stautus", false), "stautus"},
		{quote.Name("cafef00d", false), "(8 characters, not shown: it may be part of a key)"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func TestFile(t *testing.T) {
	t.Chdir(t.TempDir())
	const name = "0xfeedfacefeedfacefeedface"
	if got := quote.File(name); strings.Contains(got, "feed") {
		t.Errorf("File of a key = %s", got)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := quote.File(name); got != name {
		t.Errorf("File of a file that exists = %s", got)
	}
	if err := os.Mkdir("keys", 0o700); err != nil {
		t.Fatal(err)
	}
	if none := filepath.Join("keys", "Gw1WestX2"); quote.File(none) != none {
		t.Errorf("File(%s) = %s", none, quote.File(none))
	}
}

// TestPieces cuts random keys into random pieces. No piece is shown as an unexpected
// word. As a value, no piece of six or more digits is shown, and no whole key.
func TestPieces(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		key := make([]byte, 16+r.IntN(49))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		for _, text := range []string{hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key))} {
			for len(text) > 0 {
				n := min(1+r.IntN(32), len(text))
				piece := text[:n]
				text = text[n:]
				if got := quote.Word(piece, 1); n > 3 && strings.Contains(got, piece) {
					t.Fatalf("Word(%q) = %s", piece, got)
				}
				for _, dashed := range []string{"-" + piece, "--" + piece, piece + "=" + piece} {
					if got := quote.Option(dashed, false, 1); n > 3 && strings.Contains(got, piece) {
						t.Fatalf("Option(%q) = %s", dashed, got)
					}
				}
				if got := quote.Value(piece); n >= 6 && strings.Contains(got, piece) {
					t.Fatalf("Value(%q) = %s", piece, got)
				}
			}
		}
		for _, text := range []string{"0x" + hex.EncodeToString(key), "0s" + base64.StdEncoding.EncodeToString(key)} {
			for _, got := range []string{quote.Value(text), quote.Word(text, 1), quote.Value("x=" + text), quote.Option("--"+text, false, 1)} {
				if strings.Contains(got, text) {
					t.Fatalf("%q is shown: %s", text, got)
				}
			}
		}
		text := base64.StdEncoding.EncodeToString(key)
		for len(text) > 0 {
			n := min(5+r.IntN(28), len(text))
			piece := text[:n]
			text = text[n:]
			if got := quote.Word(piece, 1); n >= 5 && strings.Contains(got, piece) {
				t.Fatalf("Word(%q) = %s", piece, got)
			}
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "eth0", "\x1b[0m", "0xfeedface", "a\xffb", "\u202e", "esp0x100@10.0.0.1", "--x=y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{
			quote.Text(s), quote.Value(s), quote.Word(s, 1), quote.Option(s, true, 0), quote.Option(s, false, 0),
			quote.Name(s, false), quote.Line(s), quote.Printable(s),
		} {
			if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q becomes %q", s, got)
			}
		}
		if quote.MayBeKey(s) && quote.Known(s) {
			t.Fatalf("%q is both", s)
		}
	})
}

package batch

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// readAll reads all commands of a text.
func readAll(t testing.TB, text string) (list []command) {
	r := newReader(strings.NewReader(text))
	for {
		c, err := r.next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string // the words of each command, or "! " and its error
	}{
		{"", nil},
		{"\n \t\n# spi\n\t # 'x\n", nil},
		{"spi", []string{"1 spi"}},
		{"spi --clear\neroute\t--clear  \n", []string{"1 spi|--clear", "2 eroute|--clear"}},
		{"spi\r\n\r\neroute\r\n", []string{"1 spi", "3 eroute"}},
		{"\ufeffspi\n", []string{"1 spi"}},
		{"\n\nspi --said \\\n  x \\\n y # z\\\ntncfg\n", []string{"3 spi|--said|x|y", "6 tncfg"}},
		{"a\\\nb\n", []string{"1 ab"}},
		{"\"a\\\nb c\" d\n", []string{"1 ab c|d"}},
		{"# a \\\nb\n", []string{"2 b"}},
		{`a'b c'"d e"f\ g '' "" \# x#y`, []string{"1 ab cd ef g|||#|x#y"}},
		{`"a\"b\\c\$d\` + "`" + `\n\'" '\' \a`, []string{`1 a"b\c$d` + "`" + `\n\'|\|a`}},
		{`%default {1..2} $HOME * ~ > ;`, []string{"1 %default|{1..2}|$HOME|*|~|>|;"}},
		{"spi 'x\ny\n", []string{"1 ! a single quote is not closed on its line", "2 y"}},
		{"spi \"x\ny\n", []string{"1 ! a double quote is not closed on its line", "2 y"}},
		{"spi 'x\\\n0xsecret\ny\n", []string{"1 ! a single quote is not closed on its line", "3 y"}},
		{"spi \\", []string{"1 ! a backslash at the end of the last line; there is nothing it could go on with"}},
		{"spi \\\n", []string{"1 ! a backslash at the end of the last line; there is nothing it could go on with"}},
		{"spi\n'a'\x00b\nz\n", []string{"1 spi", "2 ! there is a byte 0x00 at column 4; this is no text", "3 z"}},
		{"a\x1bb\n", []string{"1 ! there is a byte 0x1b at column 2; this is no text"}},
		{"a\rb\n", []string{"1 ! there is a byte 0x0d at column 2; this is no text"}},
		{"# \xff\xfe\nz\n", []string{"1 ! there are bytes that are no UTF-8; this is no text", "2 z"}},
		{strings.Repeat("x", maxLine) + "\ny\n", []string{"1 " + strings.Repeat("x", maxLine), "2 y"}},
		{strings.Repeat("x", maxLine+1) + "\ny\n", []string{"1 ! a command of more than 1048576 bytes", "2 y"}},
		{strings.Repeat("x", 3*maxLine) + "\\\nx\ny\n", []string{"1 ! a command of more than 1048576 bytes", "3 y"}},
		{strings.Repeat("x\\\n", maxLine) + "x\ny\n", []string{"1 ! a command of more than 1048576 bytes", "1048578 y"}},
	} {
		var got []string
		for _, c := range readAll(t, tt.text) {
			s := strings.Join(c.words, "|")
			if c.err != nil {
				s = "! " + c.err.Error()
			}
			got = append(got, itoa(c.line)+" "+s)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%.80q:\n got %.200q\nwant %.200q", tt.text, got, tt.want)
		}
	}
}

// sh splits a command with the shell; ok is false if the shell refuses it.
func sh(t testing.TB, command string) (words []string, ok bool) {
	out, err := exec.Command("sh", "-c", "printf '%s\\0' "+command).Output()
	if err != nil {
		return nil, false
	}
	words = strings.Split(string(out), "\x00")
	return words[:len(words)-1], true
}

// TestShellAgrees compares the splitter with the shell. The first word always exists,
// so that printf has something to print.
func TestShellAgrees(t *testing.T) {
	const alphabet = `ab '"\# ` + "\t\\\n'\"="
	r := rand.New(rand.NewPCG(1, 2))
	agreed, refused := 0, 0
	for range 1500 {
		b := []byte("w ")
		for range r.IntN(14) {
			b = append(b, alphabet[r.IntN(len(alphabet))])
		}
		text := string(b)
		list := readAll(t, text)
		if strings.Count(text, "\n") > strings.Count(text, "\\\n") || len(list) != 1 {
			continue // several commands on several lines
		}
		want, ok := sh(t, text)
		switch {
		case list[0].err != nil:
			// Only the shell accepts a quote over several lines, and a backslash at the
			// very end.
			if ok && !strings.Contains(text, "\n") && list[0].err != errEnd {
				t.Errorf("%q: refused, sh has %q", text, want)
			}
			refused++
		case !ok:
			t.Errorf("%q: %q, but sh refuses", text, list[0].words)
		case !slices.Equal(list[0].words, want):
			t.Errorf("%q: %q, sh has %q", text, list[0].words, want)
		default:
			agreed++
		}
	}
	if agreed < 200 || refused < 50 {
		t.Errorf("only %d commands agreed and %d were refused; the test says nothing", agreed, refused)
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"spi --said 'a b'\\\n\"c\\\"\" # x\n", "\x00", "'\n\"\n\\", "a\\\r\nb", "\ufeff#"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newReader(bytes.NewReader(text))
		last, bytesOut := 0, 0
		for {
			c, err := r.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.line <= last || (c.err == nil) != (len(c.words) > 0) {
				t.Fatalf("command %+v after line %d", c, last)
			}
			last = c.line
			for _, w := range c.words {
				bytesOut += len(w)
			}
			// The words, quoted and read again, are the same.
			if c.err == nil {
				again := readAll(t, quoted(c.words))
				if len(again) != 1 || !slices.Equal(again[0].words, c.words) {
					t.Fatalf("%q read back as %+v", c.words, again)
				}
			}
		}
		if bytesOut > len(text) || last > bytes.Count(text, []byte("\n"))+1 {
			t.Fatalf("%d bytes of words, last line %d, from %d bytes", bytesOut, last, len(text))
		}
	})
}

func quoted(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(" '" + strings.ReplaceAll(w, "'", `'\''`) + "'")
	}
	return b.String()
}

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSynopsisMacros(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string
	}{
		{"", ""},
		{"--clear", `.Fl \-clear`},
		{"--add FLOW --said SAID", `.Fl \-add/.Ar FLOW/.Fl \-said/.Ar SAID`},
		{"[--label L] start|stop", `.Oo/.Fl \-label/.Ar L/.Oc/.Cm start/|/.Cm stop`},
		{"--replay_window=N", `.Fl \-replay_window Ns = Ns Ar N`},
		{"--src-port PORT ...", `.Fl \-src\-port/.Ar PORT/.No ...`},
	} {
		if got := strings.Join(synopsisMacros(c.in), "/"); got != c.want {
			t.Errorf("synopsisMacros(%q) = %s, want %s", c.in, got, c.want)
		}
	}
}

func TestFold(t *testing.T) {
	long := "# ipsec spi --said esp0x1002@192.0.2.2 --esp aes256-gcm --enckey @to-right.key --src 192.0.2.1"
	for _, c := range []struct {
		in, suffix string
		want       []string
	}{
		{"short", "", []string{"short"}},
		{"two  blanks", "", []string{"two  blanks"}},
		{"# say 'a b'", "", []string{"# say 'a b'"}},
		{long, ` \`, []string{
			`# ipsec spi --said esp0x1002@192.0.2.2 --esp aes256-gcm \`,
			`    --enckey @to-right.key --src 192.0.2.1`,
		}},
		{strings.Repeat("x", 100), "", []string{strings.Repeat("x", 100)}},
		{"  indented", "", []string{"  indented"}},
	} {
		if d := cmp.Diff(c.want, fold(c.in, c.suffix)); d != "" {
			t.Errorf("fold(%q) (-want +got):\n%s", c.in, d)
		}
	}
}

func TestLiteral(t *testing.T) {
	for in, want := range map[string]string{
		".Sh": `\&.Sh`,
		`a\b`: `a\eb`,
		"-'":  `\-\(aq`,
		"'Sh": `\(aqSh`,
		"":    "",
	} {
		if got := literal(in); got != want {
			t.Errorf("literal(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestSentence(t *testing.T) {
	for in, want := range map[string]string{
		"print this text":   "Print this text.",
		"needs --src first": `Needs \-\-src first.`,
		"":                  "",
		".hidden":           `\&.hidden.`,
	} {
		if got := sentence(in); got != want {
			t.Errorf("sentence(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestParseExamples(t *testing.T) {
	set, err := parseExamples("x", []byte(`# about
exec hidden
#: First
#: caption:
exec ipsec a
cmp stdout out.txt
umask 077
exec ipsec b
cp stdout file
#.
exec ipsec hidden
#: Second:
stdin file
exec ipsec c &name&
! stderr .
-- out.txt --
text
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []example{
		{"First\ncaption:", []step{{"ipsec a", "out.txt"}, {"umask 077", ""}, {"ipsec b > file", ""}}},
		{"Second:", []step{{"ipsec c < file", ""}}},
	}
	if d := cmp.Diff(want, set.examples, cmp.AllowUnexported(example{}, step{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := parseExamples("x", []byte("#: A\nexec b\ncmp stdout none\n")); err == nil {
		t.Error("no error for a section that is not there")
	}
}

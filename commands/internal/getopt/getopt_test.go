package getopt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// table has names that are prefixes of each other, synonyms, and options with and
// without values.
var table = []Option{
	{Name: "add"},
	{Name: "addin"},
	{Name: "src", Arg: "SUBNET"},
	{Name: "src-port", Arg: "PORT"},
	{Name: "saref", Arg: "N"},
	{Name: "sarefme", Arg: "N", Same: "saref"},
	{Name: "saref_me", Arg: "N", Same: "saref", Hidden: true},
	{Name: "virtual", Arg: "DEV"},
	{Name: "help"},
	{Name: "addition", Whole: true},
}

// parse runs Parse and returns the result as texts: name=value for an option with a
// value, and the operands after "|".
func parse(args []string, mode Mode) ([]string, error) {
	var got []string
	operands, err := Parse(table, args, mode, func(o *Option, value string) error {
		s := o.Name
		if o.Arg != "" {
			s += "=" + value
		}
		got = append(got, s)
		return nil
	})
	if err == nil {
		got = append(append(got, "|"), operands...)
	}
	return got, err
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		mode Mode
		want []string
		err  string
	}{
		{name: "nothing", want: []string{"|"}},
		{name: "exact before prefix", args: []string{"--add", "--src", "1"}, want: []string{"add", "src=1", "|"}},
		{name: "unique prefix", args: []string{"--addi", "--v=x", "--h"}, want: []string{"addin", "virtual=x", "help", "|"}},
		{name: "ambiguous", args: []string{"--ad"}, err: "option --ad can mean --add, --addin; write more of its name"},
		{name: "ambiguous with value", args: []string{"--sr=1"}, err: "option --sr can mean --src, --src-port; write more of its name"},
		{name: "synonyms are not ambiguous", args: []string{"--sar", "1", "--sarefm", "2"}, want: []string{"saref=1", "sarefme=2", "|"}},
		{name: "whole name", args: []string{"--addition", "--addi"}, want: []string{"addition", "addin", "|"}},
		{name: "not the whole name", args: []string{"--additio"}, err: "unknown option --additio; did you mean --addition?"},
		{name: "empty name", args: []string{"--=1"}, err: "option -- can mean --add, --addin, --src, --src-port, --saref, --sarefme, --saref_me, --virtual, --help; write more of its name"},
		{name: "value with dash", args: []string{"--src", "--add"}, want: []string{"src=--add", "|"}},
		{name: "value is two dashes", args: []string{"--src", "--"}, want: []string{"src=--", "|"}},
		{name: "empty values", args: []string{"--src=", "--src", ""}, want: []string{"src=", "src=", "|"}},
		{name: "equals in value", args: []string{"--src=a=b"}, want: []string{"src=a=b", "|"}},
		{name: "missing value", args: []string{"--src"}, err: "option --src needs a value (SUBNET)"},
		{name: "missing value of a prefix", args: []string{"--vir"}, err: "option --virtual needs a value (DEV)"},
		{name: "unwanted value", args: []string{"--help=1"}, err: "option --help takes no value"},
		{name: "permutation", args: []string{"a", "--add", "b", "--src", "c", "-", "", "d"}, want: []string{"add", "src=c", "|", "a", "b", "-", "", "d"}},
		{name: "end of options", args: []string{"a", "--", "--add", "--"}, want: []string{"|", "a", "--add", "--"}},
		{name: "in order", args: []string{"--add", "a", "--add"}, mode: InOrder, want: []string{"add", "|", "a", "--add"}},
		{name: "one dash", args: []string{"-add"}, err: "unknown option -add; did you mean --add?"},
		{name: "one letter", args: []string{"-h"}, err: "unknown option -h"},
		{name: "long only", args: []string{"-virtual", "x", "-v=y", "--v", "z", "-h"}, mode: LongOnly, want: []string{"virtual=x", "virtual=y", "virtual=z", "help", "|"}},
		{name: "long only, unknown", args: []string{"-x"}, mode: LongOnly, err: "unknown option -x"},
		{name: "unknown, near", args: []string{"--virtuel=secret"}, err: "unknown option --virtuel; did you mean --virtual?"},
		{name: "unknown, far", args: []string{"--nothing"}, err: "unknown option --nothing"},
		{name: "unknown, longer", args: []string{"--helpme"}, err: "unknown option --helpme"},
		{name: "unknown, not plain", args: []string{"--a b\n"}, err: "unknown option at argument 1 (6 characters, not shown: it may be part of a key)"},
		{name: "a key after one dash", args: []string{"x", "-src=0xfeedface"}, err: "unknown option -src; did you mean --src?"},
		{name: "a misspelled one after one dash", args: []string{"-virtaul=0xfeedface"}, err: "unknown option -virtaul; did you mean --virtual?"},
		{name: "a key without a blank", args: []string{"--add", "--src0xfeedface"}, err: "unknown option at argument 2 (15 characters, not shown: it may be part of a key); did you mean --src?"},
		{name: "swapped letters", args: []string{"--hlep"}, err: "unknown option --hlep; did you mean --help?"},
		{name: "first error counts", args: []string{"--nothing", "--ad"}, err: "unknown option --nothing"},
	}
	for _, tt := range tests {
		got, err := parse(tt.args, tt.mode)
		if tt.err != "" {
			var e *Error
			if !errors.As(err, &e) || err.Error() != tt.err {
				t.Errorf("%s: Parse(%q) = %v, want %q", tt.name, tt.args, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: Parse(%q) = %v", tt.name, tt.args, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: Parse(%q) (-want +got):\n%s", tt.name, tt.args, diff)
		}
	}
}

func TestParseStops(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	_, err := Parse(table, []string{"--add", "--help", "--foo"}, 0, func(*Option, string) error {
		calls++
		if calls == 2 {
			return stop
		}
		return nil
	})
	if err != stop || calls != 2 {
		t.Errorf("Parse = %v after %d calls, want %v after 2", err, calls, stop)
	}
}

func TestReadArgs(t *testing.T) {
	long := strings.Repeat("x", 1023)
	tests := []struct {
		text string
		want []string
		err  bool
	}{
		{"", nil, false},
		{"# comment\n\n--src 10/8\t--dst  11/8 \n", []string{"--src", "10/8", "--dst", "11/8"}, false},
		{"a b\n\"a b\"\n\"\"\n\"\n \n", []string{"a b", "a b", "", "\"", " "}, false},
		{"last", []string{"last"}, false},
		{long + "\n", []string{long}, false},
		{long + "x\n", nil, true},
		{long + long + "\n", nil, true},
	}
	for _, tt := range tests {
		got, err := ReadArgs(strings.NewReader(tt.text))
		if (err != nil) != tt.err {
			t.Errorf("ReadArgs(%.20q) = %v, want an error: %v", tt.text, err, tt.err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ReadArgs(%.20q) (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestInsertFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "options")
	if err := os.WriteFile(file, []byte("--src 10/8\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewScanner(table, []string{"--add", "--help", "y"}, 0)
	if o, _, err := s.Next(); err != nil || o.Name != "add" {
		t.Fatalf("Next = %v, %v", o, err)
	}
	if err := s.InsertFile(file); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		o, value, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if o == nil {
			break
		}
		got = append(got, o.Name+"="+value)
	}
	if diff := cmp.Diff([]string{"src=10/8", "help=", "x", "y"}, append(got, s.Operands()...)); diff != "" {
		t.Errorf("options and operands (-want +got):\n%s", diff)
	}
	if err := s.InsertFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("InsertFile(none) = %v", err)
	}
	var err error
	for range 200 {
		if err = s.InsertFile(file); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("InsertFile never tires")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"--add\n--src\n1", "--sar=1\n--\n--x", "-virtual\nx", "--=\n-", "--ad"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(LongOnly|InOrder))
	}
	f.Fuzz(func(t *testing.T, text string, mode uint8) {
		args := strings.Split(text, "\n")
		values := 0
		operands, err := Parse(table, args, Mode(mode)&(LongOnly|InOrder), func(o *Option, value string) error {
			if o.Arg == "" && value != "" {
				t.Fatalf("option %s has the value %q", o.Name, value)
			}
			values++
			return nil
		})
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\n\r\x00") {
				t.Fatalf("Parse(%q) = %q, want one line", args, s)
			}
			return
		}
		if values+len(operands) > len(args) {
			t.Fatalf("Parse(%q) made %d options and %d operands of %d arguments", args, values, len(operands), len(args))
		}
		// Operands keep their order.
		i := 0
		for _, a := range args {
			if i < len(operands) && operands[i] == a {
				i++
			}
		}
		if i != len(operands) {
			t.Fatalf("Parse(%q): operands %q are out of order", args, operands)
		}
	})
}

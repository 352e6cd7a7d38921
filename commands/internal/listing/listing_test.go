package listing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A textStack also has its tables as text.
type textStack struct {
	clitest.Stack
	text []byte
	err  error
	name string // of the requested table
}

func (s *textStack) Unread(context.Context, ...string) ([]klips.UnreadLine, error) { return nil, nil }

func (s *textStack) Table(_ context.Context, name string) ([]byte, error) {
	s.name = name
	return s.text, s.err
}

var table = Table{Name: "ipsec_spi", About: "SAs", Want: klips.Want{SAs: true}, Write: func(w io.Writer, t *klips.Snapshot) error {
	_, err := fmt.Fprintf(w, "%d records\n", len(t.SAs))
	return err
}, JSON: output.NewSPIList}

func TestPrint(t *testing.T) {
	refused := &klips.OpError{Op: "list", Err: syscall.EPERM}
	const text = "a line that only this kernel understands\nno newline at the end"
	for _, tt := range []struct {
		name      string
		stack     serial.Doer
		out, fail string
	}{
		{"records", &clitest.Stack{}, "0 records\n", ""},
		{"text", &textStack{text: []byte(text)}, text, ""},
		{"empty text", &textStack{}, "", ""},
		{"no right", &clitest.Stack{ListErr: syscall.EPERM}, "", "SAs: cannot be listed: not permitted; run it as root (CAP_NET_ADMIN is needed)"},
		{"no right to text", &textStack{text: []byte(text), err: refused}, "", "SAs: cannot be listed: not permitted; run it as root (CAP_NET_ADMIN is needed)"},
		{"no table", &textStack{err: &klips.OpError{Op: "list", Object: "/proc/net/ipsec_spi", Err: syscall.ENOENT}}, "",
			"/proc/net/ipsec_spi: the stack has no such table; is it running? (ipsec setup status)"},
	} {
		var out bytes.Buffer
		err := Print(t.Context(), &cli.Env{Name: "ipsec spi", Out: &out}, serial.New(tt.stack), table, false)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if tt.name == "no right" { // the test double itself names the table
			got = strings.Replace(got, "spi: ", "SAs: ", 1)
		}
		if out.String() != tt.out || got != tt.fail {
			t.Errorf("%s: printed %q, error %q, want %q, %q", tt.name, out.String(), got, tt.out, tt.fail)
		}
		if s, ok := tt.stack.(*textStack); ok && s.name != "ipsec_spi" {
			t.Errorf("%s: asked for table %q", tt.name, s.name)
		}
	}
}

// TestPrintJSON: JSON output has the records, also of a stack with text tables, and the
// lines that cannot be read.
func TestPrintJSON(t *testing.T) {
	refused := errors.New("broken")
	for _, tt := range []struct {
		name      string
		stack     serial.Doer
		out, fail string
	}{
		{"empty", &clitest.Stack{}, `{"schema":1,"stack":"klips","spi":[]}`, ""},
		{"text", &textStack{text: []byte("x")}, `{"schema":1,"stack":"klips","spi":[]}`, ""},
		{"unread", &partialStack{lines: []klips.UnreadLine{{Table: "ipsec_spi", Number: 7, Text: "?", Reason: "cut short"}}},
			`{"schema":1,"stack":"klips","spi":[],"unread":[{"table":"ipsec_spi","line":7,"text":"?","reason":"cut short"}]}`, ""},
		{"no right", &partialStack{Stack: clitest.Stack{ListErr: refused}}, "", "broken"},
		{"unread fails", &partialStack{err: refused}, "", "broken"},
	} {
		var out, compact bytes.Buffer
		err := Print(t.Context(), &cli.Env{Name: "ipsec spi", Out: &out}, serial.New(tt.stack), table, true)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if out.Len() > 0 {
			if err := json.Compact(&compact, out.Bytes()); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if s := strings.TrimSpace(compact.String()); s != tt.out || got != tt.fail {
			t.Errorf("%s: printed %s, error %q, want %s, %q", tt.name, s, got, tt.out, tt.fail)
		}
	}
}

// A full is an output that refuses all writes.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestPrintFull(t *testing.T) {
	for name, stack := range map[string]serial.Doer{"records": &clitest.Stack{}, "text": &textStack{text: []byte("x")}} {
		err := Print(t.Context(), &cli.Env{Out: full{}}, serial.New(stack), table, false)
		if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "standard output: ") {
			t.Errorf("%s to a full disk: %v", name, err)
		}
	}
}

// A prober is a stack that reports abilities.
type prober struct {
	clitest.Stack
	list []klips.Ability
	err  error
}

func (p *prober) Probe(context.Context) ([]klips.Ability, error) { return p.list, p.err }

func TestAbilities(t *testing.T) {
	list := []klips.Ability{{Name: "esp over IPv4"}, {Name: "ah over IPv6", Missing: "module ah6"}, {Name: "aes128"}, {Name: "lzs", Missing: "no stack has it"}}
	for _, tt := range []struct {
		name  string
		stack serial.Doer
		want  string
	}{
		{"no prober", &clitest.Stack{}, ""},
		{"some", &prober{list: list}, "it has esp over IPv4, aes128\nit lacks ah over IPv6: module ah6\nit lacks lzs: no stack has it\n"},
		{"none", &prober{}, ""},
		{"no right", &prober{err: &klips.OpError{Op: "probe", Err: syscall.EPERM}}, "what it can do is not known: not permitted; run it as root (CAP_NET_ADMIN is needed)\n"},
		{"some, then an error", &prober{list: list[:1], err: errors.New("interrupted")}, "what it can do is not known: interrupted\nit has esp over IPv4\n"},
	} {
		var b bytes.Buffer
		Probe(t.Context(), serial.New(tt.stack)).Write(&b)
		if b.String() != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, b.String(), tt.want)
		}
	}
}

// A partStack has its SAs in parts.
type partStack struct {
	klips.Stack
	parts int
	err   error // instead of the last part
}

func (s *partStack) SAParts(context.Context) iter.Seq2[[]klips.SA, error] {
	return func(yield func([]klips.SA, error) bool) {
		for i := range s.parts {
			if i == s.parts-1 && s.err != nil {
				yield(nil, s.err)
				return
			}
			if !yield(make([]klips.SA, i+1), nil) {
				return
			}
		}
	}
}

func (s *partStack) ErouteParts(context.Context) iter.Seq2[[]klips.Eroute, error] { return nil }

// TestPrintParts: the parts of a table are printed one after the other.
func TestPrintParts(t *testing.T) {
	refused := &klips.OpError{Op: "list", Object: "SAs", Err: syscall.ESHUTDOWN}
	const fail = "SAs: cannot be listed: the stack is just being stopped"
	for _, tt := range []struct {
		parts     int
		err       error
		out, fail string
	}{
		{1, nil, "1 records\n", ""},
		{3, nil, "1 records\n2 records\n3 records\n", ""},
		{1, refused, "", fail},
		{3, refused, "1 records\n2 records\n", fail},
	} {
		stack := &partStack{Stack: serial.New(&clitest.Stack{}), parts: tt.parts, err: tt.err}
		var out bytes.Buffer
		err := Print(t.Context(), &cli.Env{Name: "ipsec spi", Out: &out}, stack, table, false)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if out.String() != tt.out || got != tt.fail {
			t.Errorf("%d parts, %v: printed %q, error %q, want %q, %q", tt.parts, tt.err, out.String(), got, tt.out, tt.fail)
		}

		inParts := table
		inParts.JSONParts = output.WriteSPIParts
		out.Reset()
		err = Print(t.Context(), &cli.Env{Name: "ipsec spi", Out: &out}, stack, inParts, true)
		got = ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.fail || json.Valid(out.Bytes()) != (tt.err == nil) || tt.parts == 1 && tt.err != nil && out.Len() > 0 {
			t.Errorf("%d parts, %v: printed %q, error %q, want %q", tt.parts, tt.err, out.String(), got, tt.fail)
		}
		if err := Print(t.Context(), &cli.Env{Out: full{}}, &partStack{Stack: stack.Stack, parts: 1}, table, false); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("to a full disk: %v", err)
		}
	}
}

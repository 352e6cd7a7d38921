package listing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A partialStack has lines that cannot be read.
type partialStack struct {
	clitest.Stack
	sas   []klips.SA
	lines []klips.UnreadLine
	err   error
}

func (s *partialStack) SAs(context.Context) ([]klips.SA, error) { return s.sas, s.ListErr }

func (s *partialStack) Unread(context.Context, ...string) ([]klips.UnreadLine, error) {
	return s.lines, s.err
}

func (s *partialStack) Table(context.Context, string) ([]byte, error) { return nil, s.err }

func spoiled() *partialStack {
	ah := klips.SAID{Dst: netip.MustParseAddr("10.9.0.2"), SPI: 0x1104, Proto: klips.ProtoAH}
	return &partialStack{
		sas: []klips.SA{{ID: ah, Life: klips.Life{Bytes: klips.Counter{Below: 252}}, Next: []klips.SAID{{}}}},
		lines: []klips.UnreadLine{
			{Table: "ipsec_eroute", Number: 2, Text: "\x1b[2J\x7f\x9b\u009b\u202e\U000e0001 %drop:6", Reason: "cut short"}},
	}
}

// TestOddities: each oddity is one line. Neither the lines nor the JSON contain control
// sequences for terminals.
func TestOddities(t *testing.T) {
	s := spoiled()
	o, err := ReadOddities(t.Context(), serial.New(s), s.sas)
	if err != nil {
		t.Fatal(err)
	}
	notes := o.Notes()
	if len(notes) != 3 || !strings.HasPrefix(notes[0], `line 2 of ipsec_eroute cannot be read (cut short): \x1b[2J\u007f\x9b`) ||
		!strings.HasSuffix(notes[0], " %drop:6") || !strings.Contains(notes[1], "has freed") || !strings.Contains(notes[2], "252") {
		t.Errorf("Notes = %q", notes)
	}
	var out bytes.Buffer
	list := output.SPIGRPList{LinkFaults: output.LinkFaults(o.Links), Unread: output.UnreadLines(o.Unread)}
	if err := output.Print(&cli.Env{Out: &out}, list); err != nil {
		t.Fatal(err)
	}
	var back output.SPIGRPList
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back.Unread) != 1 || len(back.LinkFaults) != 1 ||
		!strings.HasPrefix(back.Unread[0].Text, "\x1b[2J\x7f") || back.LinkFaults[0] != list.LinkFaults[0] {
		t.Errorf("JSON %s becomes %+v, %v", &out, back, err)
	}
	for _, text := range append(notes, strings.ReplaceAll(out.String(), "\n", " ")) {
		if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q has a character that is not printable at %d", text, i)
		}
	}
}

func TestNoOddities(t *testing.T) {
	s := spoiled()
	if o, err := ReadOddities(t.Context(), serial.New(&s.Stack), s.sas); err != nil || o.Notes() != nil {
		t.Errorf("a stack that makes its own tables has %q, %v", o.Notes(), err)
	}
	s.err = errors.New("broken")
	if _, err := ReadOddities(t.Context(), serial.New(s), s.sas); err != s.err {
		t.Errorf("ReadOddities = %v, want %v", err, s.err)
	}
}

func TestNoteLinks(t *testing.T) {
	s := spoiled()
	for _, tt := range []struct {
		stack serial.Doer
		want  string
	}{
		{s, "ipsec spigrp: note: ah0x1104@10.9.0.2 is linked to an SA that KLIPS has freed"},
		{&s.Stack, ""},
		{&partialStack{Stack: clitest.Stack{ListErr: errors.New("broken")}}, ""},
	} {
		var notes bytes.Buffer
		NoteLinks(t.Context(), &cli.Env{Name: "ipsec spigrp", Err: &notes}, serial.New(tt.stack))
		if tt.want == "" && notes.Len() != 0 || !strings.HasPrefix(notes.String(), tt.want) {
			t.Errorf("NoteLinks = %q, want %q", &notes, tt.want)
		}
	}
}

// TestMarked: SAs that refuse packets because of a sequence mark have a note, on any
// stack.
func TestMarked(t *testing.T) {
	sas := []klips.SA{{ID: klips.SAID{Dst: netip.MustParseAddr("10.9.0.2"), SPI: 0x1104, Proto: klips.ProtoAH}, BelowMark: 7}, {}}
	o, err := ReadOddities(t.Context(), serial.New(&clitest.Stack{}), sas)
	if err != nil {
		t.Fatal(err)
	}
	if n := o.Notes(); len(n) != 1 || !strings.HasPrefix(n[0], "ah0x1104@10.9.0.2 has refused 7 packets") || !strings.Contains(n[0], "--replay-seq 0") {
		t.Errorf("notes %q", n)
	}
}

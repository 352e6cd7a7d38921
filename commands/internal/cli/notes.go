package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A Note is what a check has said.
type Note struct {
	Check int // which check, counted from 0
	Text  string
}

// Notes makes the checks of many commands after the last of them: what was missing
// then may have been made, and the tables are read once. A note that several
// commands give is there for the first of them, without the others' SAIDs: of notes
// that begin with SAIDs and a colon only the rest counts, and the first one has the
// number of the others at its end.
func Notes(ctx context.Context, stack klips.Stack, checks []Check) (notes []Note) {
	t := &tables{stack: stack}
	type group struct {
		first int             // in notes
		saids map[string]bool // what the notes of the group are about
		last  string
	}
	groups := map[string]*group{}
	for i, check := range checks {
		for _, text := range check(ctx, t) {
			saids, rest := about(text)
			g := groups[rest]
			if g == nil {
				g = &group{len(notes), map[string]bool{}, ""}
				groups[rest] = g
				notes = append(notes, Note{i, text})
			}
			if !g.saids[saids] {
				g.saids[saids], g.last = true, saids
			}
		}
	}
	for _, g := range groups {
		switch others := len(g.saids) - 1; others {
		case 0:
		case 1:
			notes[g.first].Text += " (the same holds for " + g.last + ")"
		default:
			notes[g.first].Text += fmt.Sprintf(" (the same holds for %d others)", others)
		}
	}
	return notes
}

// about splits a note into the SAIDs at its front, if there are some, and the rest.
func about(note string) (saids, rest string) {
	front, back, ok := strings.Cut(note, ": ")
	first, _, _ := strings.Cut(front, " ")
	if _, err := syntax.ParseSAID(first, nil); !ok || err != nil {
		return "", note
	}
	return front, back
}

// manyGroups is how many groups are read one by one before all SAs are read.
const manyGroups = 1000

// A tables is the tables of a stack, read when they are first needed.
type tables struct {
	stack  klips.Stack
	asked  int // how many groups have been read one by one
	groups *klips.Groups
	err    error // of reading the SAs

	eroutes    []klips.Eroute
	targets    map[klips.Selector]klips.SAID // of the eroutes; nil until they are read
	eroutesErr error
}

func (t *tables) Group(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	if t.asked < manyGroups && t.stack.Info().Has(klips.CapGroupRead) {
		t.asked++
		return klips.ReadGroup(ctx, t.stack, id)
	}
	if t.groups == nil && t.err == nil {
		t.groups, t.err = klips.ReadGroups(ctx, t.stack)
	}
	if t.err != nil {
		return nil, t.err
	}
	return t.groups.Of(id)
}

func (t *tables) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	if t.targets == nil {
		t.eroutes, t.eroutesErr = klips.ReadEroutes(ctx, t.stack)
		t.targets = make(map[klips.Selector]klips.SAID, len(t.eroutes))
		for _, e := range t.eroutes {
			t.targets[e.Selector] = e.ID
		}
	}
	return t.eroutes, t.eroutesErr
}

// HasEroute returns true also where the eroutes cannot be read: they have been
// set.
func (t *tables) HasEroute(ctx context.Context, e klips.Eroute) bool {
	_, err := t.Eroutes(ctx)
	return err != nil || t.targets[e.Selector] == e.ID
}

func (t *tables) NeedsPort(ctx context.Context, port uint16) bool {
	return NeedsPort(ctx, t.stack, port)
}

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A Note is a note of a check.
type Note struct {
	Check int // which check, counted from 0
	Text  string
}

// Notes runs the checks of many commands after the last command. By then, later
// commands may have made what was missing, and each table is read only once. If several
// commands have the same note, it is returned once, for the first of them. Notes that
// begin with SAIDs and a colon are the same if their remaining text is the same. The
// first one then ends with the number of the others.
func Notes(ctx context.Context, stack klips.Stack, checks []Check) (notes []Note) {
	t := &tables{stack: stack}
	if len(checks) > manyGroups {
		t.asked = manyGroups
	}
	type group struct {
		first int             // index in notes
		saids map[string]bool // the SAIDs of the notes of the group
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

// about splits a note into the SAIDs at its beginning, if any, and the rest.
func about(note string) (saids, rest string) {
	front, back, ok := strings.Cut(note, ": ")
	first, _, _ := strings.Cut(front, " ")
	if _, err := syntax.ParseSAID(first, nil); !ok || err != nil {
		return "", note
	}
	return front, back
}

// manyGroups is the number of groups that are read one by one. For more, or for more
// checks than that, all SAs are read at once.
const manyGroups = 1000

// A tables holds the tables of a stack. Each is read when it is first needed.
type tables struct {
	stack  klips.Stack
	asked  int // number of groups read one by one
	groups *klips.Groups
	err    error // of reading the SAs

	eroutes    []klips.Eroute
	at         map[klips.Selector]int // where each is in eroutes; nil until they are read
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
	if t.at == nil {
		t.eroutes, t.eroutesErr = klips.ReadEroutes(ctx, t.stack)
		t.at = make(map[klips.Selector]int, len(t.eroutes))
		for i := range t.eroutes {
			t.at[t.eroutes[i].Selector] = i
		}
	}
	return t.eroutes, t.eroutesErr
}

// HasEroute also returns true if the eroutes cannot be read: the commands that set them
// succeeded.
func (t *tables) HasEroute(ctx context.Context, e klips.Eroute) bool {
	l, err := t.Eroutes(ctx)
	i, there := t.at[e.Selector]
	return err != nil || there && l[i].SameTarget(&e)
}

func (t *tables) NeedsPort(ctx context.Context, port uint16) bool {
	return NeedsPort(ctx, t.stack, port)
}

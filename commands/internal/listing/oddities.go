package listing

import (
	"context"
	"fmt"

	"github.com/klips-go/ipsec/commands/internal/advice"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// Oddities are the faults in the tables of a stack, which only a classic KLIPS kernel
// has, and the SAs that refuse packets because of sequence marks.
type Oddities struct {
	Unread []klips.UnreadLine // lines that cannot be read
	Links  []klips.LinkFault  // SAs with wrong links
	below  []klips.SA         // SAs with a count below zero
	marked []klips.SA         // SAs that have refused packets up to a mark
}

// ReadOddities returns the oddities of a stack; sas are its SAs.
func ReadOddities(ctx context.Context, stack klips.Stack, sas []klips.SA) (o Oddities, err error) {
	for _, sa := range sas {
		if sa.BelowMark != 0 {
			o.marked = append(o.marked, sa)
		}
	}
	if !stack.Info().Has(klips.CapText) {
		return o, nil
	}
	o.Links = klips.CheckLinks(sas)
	for _, sa := range sas {
		if sa.Life.Bytes.Below != 0 {
			o.below = append(o.below, sa)
		}
	}
	t, err := stack.Snapshot(ctx, klips.Want{Unread: klips.TextTables[:]})
	if err != nil {
		return o, err
	}
	o.Unread = t.Unread
	return o, nil
}

// Notes returns one line for each oddity.
func (o Oddities) Notes() []string {
	var notes []string
	for _, l := range o.Unread {
		notes = append(notes, Unread(l))
	}
	for _, f := range o.Links {
		notes = append(notes, advice.Link(f))
	}
	for _, sa := range o.below {
		notes = append(notes, advice.Bytes(sa))
	}
	for _, sa := range o.marked {
		notes = append(notes, advice.Mark(sa))
	}
	return notes
}

// Unread describes a line that cannot be read. Unprintable characters are escaped.
func Unread(l klips.UnreadLine) string {
	return fmt.Sprintf("line %d of %s cannot be read (%s): %s", l.Number, l.Table, l.Reason, quote.Printable(l.Text))
}

// NoteLinks prints a note for each SA with a wrong link. It prints nothing if the
// tables cannot be read.
func NoteLinks(ctx context.Context, env *cli.Env, stack klips.Stack) {
	if !stack.Info().Has(klips.CapText) {
		return
	}
	sas, err := klips.ReadSAs(ctx, stack)
	if err != nil {
		return
	}
	for _, f := range klips.CheckLinks(sas) {
		cli.Notef(env, "%s", advice.Link(f))
	}
}

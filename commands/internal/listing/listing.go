// Package listing prints the tables of a stack.
package listing

import (
	"context"
	"io"
	"iter"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
)

// A Table is the table that an applet prints if no action is given.
type Table struct {
	Name  string // as in /proc/net
	About string // name of its records, for errors
	Want  klips.Want
	Write func(io.Writer, *klips.Snapshot) error
	// JSON returns the list for programs, from the name of the stack and a snapshot
	// that has the records and the unreadable lines of their tables.
	JSON func(stack string, s *klips.Snapshot) output.List
	// JSONParts writes the same list from snapshots that have a part each; nil: the list
	// needs all records.
	JSONParts func(w io.Writer, stack string, parts iter.Seq2[*klips.Snapshot, error]) error
}

// Reader returns the command that prints the table, as JSON if c requests it.
func (t Table) Reader(c *cli.Common) cli.Reader {
	return func(ctx context.Context, env *cli.Env, s klips.Stack) error {
		c.DebugStack(env, s)
		return Print(ctx, env, s, t, c.JSON)
	}
}

// Print prints a table. If a stack has it as text, the text is printed unchanged: old
// scripts depend on its format, and lines that only the stack understands are kept.
//
// With asJSON it prints the records as JSON instead.
//
// A long table of a stack that has parts ([klips.Parter]) is printed as it is read. If a
// later part cannot be read, the earlier ones have been printed.
func Print(ctx context.Context, env *cli.Env, stack klips.Stack, t Table, asJSON bool) error {
	if parts := t.parts(ctx, stack); parts != nil && (!asJSON || t.JSONParts != nil) {
		return printParts(env, stack, t, parts, asJSON)
	}
	if asJSON {
		return printJSON(ctx, env, stack, t)
	}
	asText := stack.Info().Has(klips.CapText)
	want := t.Want
	if asText {
		want = klips.Want{Text: t.Name}
	}
	s, err := stack.Snapshot(ctx, want)
	switch {
	case err != nil:
		return explain.Listing(t.About, err)
	case asText:
		return cli.PrintExactly(env, s.Text)
	}
	return cli.Print(env, func(w io.Writer) error { return t.Write(w, s) })
}

// parts returns the parts of the table; nil if it is short, or if the stack has none.
func (t *Table) parts(ctx context.Context, stack klips.Stack) iter.Seq2[*klips.Snapshot, error] {
	p, ok := stack.(klips.Parter)
	switch {
	case ok && t.Want.SAs:
		return snapshots(p.SAParts(ctx), func(s *klips.Snapshot, l []klips.SA) { s.SAs = l })
	case ok && t.Want.Eroutes:
		return snapshots(p.ErouteParts(ctx), func(s *klips.Snapshot, l []klips.Eroute) { s.Eroutes = l })
	}
	return nil
}

func snapshots[T any](parts iter.Seq2[[]T, error], set func(*klips.Snapshot, []T)) iter.Seq2[*klips.Snapshot, error] {
	return func(yield func(*klips.Snapshot, error) bool) {
		var s klips.Snapshot
		for part, err := range parts {
			if set(&s, part); !yield(&s, err) {
				return
			}
		}
	}
}

func printParts(env *cli.Env, stack klips.Stack, t Table, parts iter.Seq2[*klips.Snapshot, error], asJSON bool) error {
	var failed error // of the stack, in contrast to the output
	read := func(yield func(*klips.Snapshot, error) bool) {
		for s, err := range parts {
			if failed = err; !yield(s, err) {
				return
			}
		}
	}
	err := cli.Print(env, func(w io.Writer) error {
		if asJSON {
			return t.JSONParts(w, stack.Info().Name, read)
		}
		for s, err := range read {
			if err != nil {
				return err
			}
			if err := t.Write(w, s); err != nil {
				return err
			}
		}
		return nil
	})
	if failed != nil {
		return explain.Listing(t.About, failed)
	}
	return err
}

func printJSON(ctx context.Context, env *cli.Env, stack klips.Stack, t Table) error {
	want := t.Want
	want.Unread = []string{t.Name}
	if want.SAs { // they come from two tables
		want.Unread = klips.GroupTables[:]
	}
	s, err := stack.Snapshot(ctx, want)
	if err != nil {
		return explain.Listing(t.About, err)
	}
	return output.Print(env, t.JSON(stack.Info().Name, s))
}

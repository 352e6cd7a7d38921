// Package listing prints the tables of a stack.
package listing

import (
	"context"
	"io"

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
func Print(ctx context.Context, env *cli.Env, stack klips.Stack, t Table, asJSON bool) error {
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

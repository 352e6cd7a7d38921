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

// A Table is one of the tables that applets print when they are asked for
// nothing else.
type Table struct {
	Name  string // as in /proc/net
	About string // what its records are, for errors
	Want  klips.Want
	Write func(io.Writer, *klips.Snapshot) error
	// JSON makes the list for programs, from the name of the stack and a snapshot that
	// has the records and the lines of their tables that cannot be read.
	JSON func(stack string, s *klips.Snapshot) output.List
}

// Reader returns the command that prints the table, as JSON if c asks for that.
func (t Table) Reader(c *cli.Common) cli.Reader {
	return func(ctx context.Context, env *cli.Env, s klips.Stack) error {
		c.DebugStack(env, s)
		return Print(ctx, env, s, t, c.JSON)
	}
}

// Print prints a table. A stack that has it as text has the last word: old
// scripts know its format, and lines that only it understands are not lost.
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

// Package listing prints the tables of a stack.
package listing

import (
	"context"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
)

// A Table is one of the tables that applets print when they are asked for
// nothing else.
type Table[T any] struct {
	Name  string // as in /proc/net
	About string // what its records are, for errors
	Read  func(klips.Stack, context.Context) (T, error)
	Write func(io.Writer, T) error
}

// Print prints a table. A stack that has it as text has the last word: old
// scripts know its format, and lines that only it understands are not lost.
func Print[T any](ctx context.Context, env *cli.Env, stack klips.Stack, t Table[T]) error {
	if tt, ok := klips.As[klips.TextTables](stack); ok {
		text, err := tt.Table(ctx, t.Name)
		if err != nil {
			return explain.Error(explain.List, t.About, err)
		}
		return cli.PrintExactly(env, text)
	}
	records, err := t.Read(stack, ctx)
	if err != nil {
		return explain.Error(explain.List, t.About, err)
	}
	return cli.Print(env, func(w io.Writer) error { return t.Write(w, records) })
}

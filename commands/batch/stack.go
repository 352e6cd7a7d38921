package batch

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// A connection is the one connection to the stack that all commands use. It is
// made when the first of them asks for it.
type connection struct {
	open  func(ctx context.Context) (klips.Stack, error)
	stack klips.Stack // nil until it has been opened
	err   error       // it cannot be opened; no second try is made
}

// get is what applets get as [cli.Env.Stack].
func (c *connection) get(ctx context.Context) (klips.Stack, error) {
	if c.stack == nil && c.err == nil {
		c.stack, c.err = c.open(ctx)
	}
	if c.err != nil {
		return nil, c.err
	}
	if t, ok := c.stack.(klips.TextTables); ok {
		return keptText{kept{c.stack}, t}, nil
	}
	return kept{c.stack}, nil
}

func (c *connection) close() error {
	if c.stack == nil {
		return nil
	}
	return c.stack.Close()
}

// A kept is a stack that stays open when an applet closes it.
type kept struct{ klips.Stack }

func (kept) Close() error { return nil }

// A keptText is one whose tables are text.
type keptText struct {
	kept
	klips.TextTables
}

package batch

import (
	"context"
	"errors"

	"github.com/klips-go/ipsec/klips"
)

// A connection is the one connection to the stack that all commands use. It is
// made when the first of them asks for it.
type connection struct {
	open  func(ctx context.Context) (klips.Stack, error)
	stack klips.Stack // nil until it has been opened
	err   error       // it cannot be opened; no second try is made

	collection klips.Collection // nil: the stack has none, or is not open
}

// get opens the stack.
func (c *connection) get(ctx context.Context) (klips.Stack, error) {
	if c.stack == nil && c.err == nil {
		if c.stack, c.err = c.open(ctx); c.err == nil {
			if k, ok := klips.As[klips.Collector](c.stack); ok {
				c.collection = k.Collect()
			}
		}
	}
	return c.stack, c.err
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

// Unwrap is for [klips.As].
func (k kept) Unwrap() klips.Stack { return k.Stack }

// errNow is what a collecting stack answers when it is asked for something that
// has to be done now.
var errNow = errors.New("not while changes are collected")

// A collecting is a stack that puts changes off. It answers what does not depend
// on them; of everything else it notes that it was asked.
type collecting struct {
	klips.Changes
	stack klips.Stack
	asked bool
}

func (c *collecting) now() error {
	c.asked = true
	return errNow
}

func (c *collecting) Name() string                  { return c.stack.Name() }
func (c *collecting) Has(cap klips.Capability) bool { return c.stack.Has(cap) }
func (c *collecting) Close() error                  { return nil }

func (c *collecting) Version(context.Context) (string, error) { return "", c.now() }
func (c *collecting) GetSA(context.Context, klips.SAID) (klips.SA, error) {
	return klips.SA{}, c.now()
}
func (c *collecting) SAs(context.Context) ([]klips.SA, error)         { return nil, c.now() }
func (c *collecting) Eroutes(context.Context) ([]klips.Eroute, error) { return nil, c.now() }
func (c *collecting) Devices(context.Context) ([]klips.Device, error) { return nil, c.now() }
func (c *collecting) Debug(context.Context) (klips.Debug, error)      { return klips.Debug{}, c.now() }

func (c *collecting) Attach(context.Context, string, string) error      { return c.now() }
func (c *collecting) Detach(context.Context, string) error              { return c.now() }
func (c *collecting) DetachAll(context.Context) error                   { return c.now() }
func (c *collecting) CreateDevice(context.Context, string) error        { return c.now() }
func (c *collecting) DeleteDevice(context.Context, string) error        { return c.now() }
func (c *collecting) SetDebug(context.Context, klips.DebugChange) error { return c.now() }

package pfkey

import (
	"bytes"
	"context"
	"fmt"
	"iter"
)

// A Listener is a stack, or a connection to one, that lets others listen to its
// PF_KEY messages: answers to all processes, EXPIRE, and ACQUIRE for the SA
// types that were registered.
type Listener interface {
	// Listen registers for SA types, one after the other, and returns all
	// messages that arrive from then on, the answers to the registrations
	// first. Messages are in wire form, unchecked, and belong to the caller.
	// The sequence ends after an error: that of ctx, or one that wraps
	// io.ErrUnexpectedEOF when the stack has gone.
	//
	// An error of Listen itself says that a registration failed; errors.Is
	// finds the errno.
	Listen(ctx context.Context, types ...SAType) (iter.Seq2[[]byte, error], error)
}

var _ Listener = (*Conn)(nil)

// Listen registers for SA types and returns what arrives, see [Listener]. Other
// calls on the Conn would take messages away from it.
func (c *Conn) Listen(ctx context.Context, types ...SAType) (iter.Seq2[[]byte, error], error) {
	var early [][]byte
	for _, t := range types {
		if err := c.register(ctx, t, func(b []byte) { early = append(early, b) }); err != nil {
			return nil, fmt.Errorf("register for %v: %w", t, err)
		}
	}
	return func(yield func([]byte, error) bool) {
		for _, b := range early {
			if !yield(b, nil) {
				return
			}
		}
		early = nil
		for {
			b, err := c.receive(ctx)
			if !yield(b, err) || err != nil {
				return
			}
		}
	}, nil
}

// register sends one REGISTER and waits for its answer. heard gets that and
// what comes before it.
func (c *Conn) register(ctx context.Context, t SAType, heard func([]byte)) error {
	return c.inTurn(ctx, func() error {
		request := Register(t)
		if err := c.ask(request); err != nil {
			return err
		}
		for { // REGISTER is answered on every transport
			n, err := c.t.recv(c.buf)
			if err != nil {
				return err
			}
			h, _ := ParseHeader(c.buf[:n])
			if answers(h, request) && h.Errno != 0 {
				return h.Errno
			}
			heard(bytes.Clone(c.buf[:n]))
			if answers(h, request) {
				break
			}
		}
		return nil
	})
}

// receive waits for the next message.
func (c *Conn) receive(ctx context.Context) (b []byte, err error) {
	err = c.inTurn(ctx, func() error {
		n, err := c.t.recv(c.buf)
		b = bytes.Clone(c.buf[:n])
		return err
	})
	return b, err
}

package pfkey

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/klips-go/ipsec/klips"
)

// Events registers for the SA types in w, and returns the messages that arrive from
// then on, first the answers to the registrations. Other calls on the Conn would take
// messages away from it. errors.Is finds the errno of a registration that failed.
func (c *Conn) Events(ctx context.Context, w klips.EventWant) (iter.Seq2[klips.Event, error], error) {
	var early [][]byte
	for _, n := range w.Register {
		t := SAType(n)
		if err := c.register(ctx, t, func(b []byte) { early = append(early, b) }); err != nil {
			return nil, fmt.Errorf("register for %v: %w", t, err)
		}
	}
	return func(yield func(klips.Event, error) bool) {
		for _, b := range early {
			if !yield(klips.Event{PFKey: b}, nil) {
				return
			}
		}
		early = nil
		for {
			b, err := c.receive(ctx)
			if !yield(klips.Event{PFKey: b}, err) || err != nil {
				return
			}
		}
	}, nil
}

// register sends one REGISTER and waits for its answer. heard gets the answer and the
// messages before it.
func (c *Conn) register(ctx context.Context, t SAType, heard func([]byte)) error {
	return c.inTurn(ctx, func() error {
		request := Register(t)
		if err := c.ask(request); err != nil {
			return err
		}
		for { // REGISTER gets a message as answer on every transport
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

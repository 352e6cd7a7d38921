package user

import (
	"context"
	"errors"
	"iter"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// SAParts lists the SAs in parts, see [klips.Parter].
func (c *Client) SAParts(ctx context.Context) iter.Seq2[[]klips.SA, error] {
	return parts(ctx, c, "list SAs", control.TableSAs, c.SAs)
}

// ErouteParts lists the eroutes in parts, see [klips.Parter].
func (c *Client) ErouteParts(ctx context.Context) iter.Seq2[[]klips.Eroute, error] {
	return parts(ctx, c, "list eroutes", control.TableEroutes, c.Eroutes)
}

// parts requests one part after the other. A daemon of an earlier version knows no parts;
// whole then reads the table.
func parts[T any](ctx context.Context, c *Client, op string, t control.Table, whole func(context.Context) ([]T, error)) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		var part []T
		for place, more := []byte(nil), true; more; more = place != nil {
			first := place == nil
			err := c.withLimit(ctx, func(ctx context.Context, conn *pfkey.Conn) (err error) {
				part, place, err = control.ListingPart(ctx, conn, t, place, part[:0])
				return err
			})
			switch {
			case first && errors.Is(err, syscall.EINVAL):
				yield(whole(ctx))
				return
			case err != nil:
				yield(nil, opError(op, "", err))
				return
			case !yield(part, nil):
				return
			}
		}
	}
}

// withLimit is with, with the time limit of a listing.
func (c *Client) withLimit(ctx context.Context, f func(context.Context, *pfkey.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return c.with(func(conn *pfkey.Conn) error { return f(ctx, conn) })
}

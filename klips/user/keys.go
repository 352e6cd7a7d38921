package user

import (
	"context"
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/control"
)

// ReadKeys requests the keys of an SA, see [klips.KeyReader]. A daemon of an earlier version
// gives none: EOPNOTSUPP.
func (c *Client) ReadKeys(ctx context.Context, id klips.SAID) (klips.Keys, error) {
	m, err := c.call(ctx, "get keys", id.String(), control.Keys(id))
	if errors.Is(err, syscall.EINVAL) {
		err = klips.NoKeys(id)
	}
	if err != nil {
		return klips.Keys{}, err
	}
	return control.KeysOf(m), nil
}

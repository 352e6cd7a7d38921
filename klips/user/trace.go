package user

import (
	"context"
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Trace asks the daemon what it would do with a packet, see [klips.Tracer]. A daemon of an
// earlier version does not know the request: EOPNOTSUPP.
func (c *Client) Trace(ctx context.Context, f klips.Flow) (*klips.Decision, error) {
	request, err := control.Trace(f)
	if err != nil {
		return nil, err
	}
	m, err := c.call(ctx, "trace", f.Dst.String(), request)
	if errors.Is(err, syscall.EINVAL) && f.Src.Is4() == f.Dst.Is4() {
		return nil, &klips.OpError{Op: "trace", Object: f.Dst.String(), Err: syscall.EOPNOTSUPP}
	}
	var d klips.Decision
	if err == nil {
		err = control.ValueOf(m, &d)
	}
	return &d, err
}

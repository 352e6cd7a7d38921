package user

import (
	"context"

	"github.com/klips-go/ipsec/klips/internal/netns"
	"github.com/klips-go/ipsec/klips/user/control"
)

// HandOver asks the daemon for its whole state, and to stop. The first descriptor is
// for [handover.Open], the others are those of the daemon's devices and sockets; the
// caller owns them. The daemon has ended when its lock is free. EPERM: this user may
// not have keys. EXDEV: the daemon is in another network namespace. EINVAL: the
// daemon's version does not know the request.
func (c *Client) HandOver(ctx context.Context) (fds []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	own, _ := netns.Inode() // 0 if it cannot be found out
	m, err := control.HandOver(own)
	if err == nil {
		fds, err = c.current().CallForFiles(ctx, m)
	}
	if err != nil {
		return nil, opError("take over", "", err)
	}
	return fds, nil
}

package host

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// shared are the link-local addresses of a physical device that a virtual device has,
// too. The virtual device has no others: the kernel is set to give it none.
type shared struct {
	index int            // of the physical device; 0: none
	given []netip.Prefix // the addresses
}

// ShareLinkLocal gives the device the link-local addresses of the physical device with
// that index, and follows their changes. 0 removes them.
func (l *link) ShareLinkLocal(index int) error {
	l.host.mu.Lock()
	defer l.host.mu.Unlock()
	l.shared.index = index
	return l.share()
}

// share adds and removes addresses until they are right. It adds an address again that
// was removed from outside, as the kernel does when the device goes down. The caller
// holds host.mu.
func (l *link) share() error {
	return rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		own, err := c.Link(ctx, l.name)
		if err != nil {
			return err
		}
		all, err := c.Addrs(ctx)
		if err != nil {
			return err
		}
		var want, have []netip.Prefix
		for _, a := range all {
			switch ll := a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast(); {
			case ll && a.Index == own.Index:
				have = append(have, a.Prefix)
			case ll && a.Index == l.shared.index && !a.Unsure:
				want = append(want, a.Prefix)
			}
		}
		var errs []error
		for _, p := range l.shared.given {
			if slices.Contains(have, p) && !slices.Contains(want, p) {
				errs = append(errs, c.DeleteAddr(ctx, rtnl.Addr{Index: own.Index, Prefix: p}))
			}
		}
		for _, p := range want {
			if slices.Contains(have, p) {
				continue
			}
			err := c.AddAddr(ctx, rtnl.Addr{Index: own.Index, Prefix: p, Scope: unix.RT_SCOPE_LINK, NoDAD: true})
			if !errors.Is(err, unix.EEXIST) { // EEXIST: it was added from outside
				errs = append(errs, err)
			}
		}
		l.shared.given = want
		return errors.Join(errs...)
	})
}

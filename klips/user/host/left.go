package host

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// The alias of a device shows that it is one of ours, and its physical device. It stays
// when the daemon ends, and ip link shows it.
const (
	alias   = "ipsec klipsd"
	aliasOn = alias + " on "
)

// ours reports whether a device is one of ours, and its physical device, "" for none.
func ours(l *rtnl.Link) (physical string, ok bool) {
	if l.Kind != "tun" {
		return "", false
	}
	if physical, ok = strings.CutPrefix(l.Alias, aliasOn); ok {
		return physical, true
	}
	return "", l.Alias == alias
}

// mark sets the alias of a device.
func mark(name, physical string) error {
	text := alias
	if physical != "" {
		text = aliasOn + physical
	}
	return rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		l, err := c.Link(ctx, name)
		if err != nil {
			return err
		}
		return c.SetAlias(ctx, l.Index, text)
	})
}

// isLeft reports whether one of our devices has that name.
func isLeft(name string) (is bool) {
	_ = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		l, err := c.Link(ctx, name)
		_, ok := ours(&l)
		is = err == nil && ok
		return err
	})
	return is
}

// Left returns the TUN devices of this network namespace that daemons have left, by
// name. Devices that a daemon reads are not included.
func Left() (left []engine.LeftLink, err error) {
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		links, err := c.Links(ctx)
		for i := range links {
			if physical, ok := ours(&links[i]); ok && !links[i].Carrier {
				left = append(left, engine.LeftLink{Name: links[i].Name, Physical: physical})
			}
		}
		return err
	})
	slices.SortFunc(left, func(a, b engine.LeftLink) int { return strings.Compare(a.Name, b.Name) })
	return left, err
}

// RemoveLeft removes the devices that daemons have left, and returns their names. A
// device that a daemon has opened meanwhile stays.
func RemoveLeft() (removed []string, err error) {
	left, err := Left()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, l := range left {
		k, err := openLink(l.Name)
		switch {
		case errors.Is(err, unix.EBUSY):
			continue
		case err == nil:
			err = k.Remove()
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, l.Name)
	}
	return removed, errors.Join(errs...)
}

package host

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// The alias of a device shows that it is one of ours, its physical device, the MTU that a
// daemon gave it, and whether it sends directly. It stays when the daemon ends, and ip
// link shows it.
const (
	alias    = "ipsec klipsd"
	aliasOn  = alias + " on "
	aliasMTU = " with MTU "
	// aliasDirect comes last, where earlier versions do not take it for a name.
	aliasDirect = " directly"
)

// ours returns what the alias of one of our devices shows; ok is false for others.
func ours(l *rtnl.Link) (left engine.LeftLink, ok bool) {
	left.Name = l.Name
	if l.Kind != "tun" {
		return left, false
	}
	on, ok := strings.CutPrefix(l.Alias, aliasOn)
	if !ok {
		return left, l.Alias == alias
	}
	var mtu string
	left.Physical, mtu, _ = strings.Cut(on, aliasMTU)
	mtu, left.Direct = strings.CutSuffix(mtu, aliasDirect)
	left.ChosenMTU, _ = strconv.Atoi(mtu) // earlier versions wrote none
	return left, true
}

// mark sets the alias of a device.
func mark(name, physical string, mtu int, direct bool) error {
	text := alias
	if physical != "" {
		text = aliasOn + physical
		if mtu != 0 || direct {
			text += aliasMTU + strconv.Itoa(mtu)
		}
		if direct {
			text += aliasDirect
		}
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
			if l, ok := ours(&links[i]); ok && !links[i].Carrier {
				left = append(left, l)
			}
		}
		return err
	})
	arrange.Sort(left, func(a, b engine.LeftLink) int { return strings.Compare(a.Name, b.Name) })
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

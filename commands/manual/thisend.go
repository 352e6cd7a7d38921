package manual

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
)

// whoAmI finds out which end this host is.
func (k *connection) whoAmI(c *conf.Conn, h host.Host, me host.Identity) error {
	device := c.Get("interface")
	switch {
	case device.Value == "":
	case !links.IsVirtual(device.Value):
		return device.Error(quote.Value(device.Value) + " is no virtual device; these are ipsec0 to ipsec63")
	case me.Addr.IsValid() && me.Device != device.Value:
		return device.Error(device.Value + ": --iam gives " + me.Device)
	}
	lists := [2][]host.Identity{{me}}
	if !me.Addr.IsValid() {
		var err error
		if lists[0], lists[1], err = h.Identities(k.bindings); err != nil {
			return err
		}
	}
	for _, list := range lists {
		var found []host.Identity
		for _, i := range list {
			i.Device = cmp.Or(device.Value, i.Device)
			if !k.ends[0].is(i.Addr) && !k.ends[1].is(i.Addr) {
				continue
			}
			same := slices.IndexFunc(found, func(o host.Identity) bool { return o.Addr == i.Addr })
			switch {
			case same < 0:
				found = append(found, i)
			case k.before(i.Device, found[same].Device):
				found[same] = i
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			k.iface = found[0].Device
			if k.ends[1].is(found[0].Addr) {
				k.local = 1
			}
			return nil
		}
		return c.Errorf("it is ambiguous which end this is: %s on %s or %s on %s; say it with ipsec manual --iam ADDR@IFACE",
			klips.FormatAddr(found[0].Addr), found[0].Device, klips.FormatAddr(found[1].Addr), found[1].Device)
	}
	l, r := k.ends[0].text(), k.ends[1].text()
	if me.Addr.IsValid() {
		return c.Errorf("--iam %s@%s: it is neither left (%s) nor right (%s)", klips.FormatAddr(me.Addr), me.Device, l, r)
	}
	return c.Errorf("this host is neither left (%s) nor right (%s); ip addr lists its addresses; ipsec manual has --iam ADDR@IFACE to give one", l, r)
}

// before reports whether a virtual device serves rather than another one with the same address:
// those of interfaces= do, and then the one with the lower number.
func (k *connection) before(device, other string) bool {
	order := func(name string) int {
		n, _ := klips.DeviceNumber(name)
		if slices.ContainsFunc(k.bindings, func(b host.Binding) bool { return b.Virtual == name }) {
			return n - klips.MaxDevices
		}
		return n
	}
	return order(device) < order(other)
}

// is reports whether a is the address of the end.
func (e *end) is(a netip.Addr) bool { return !e.any && e.addr == a }

// text returns the words for the end.
func (e *end) text() string {
	if e.any {
		return "any address"
	}
	return klips.FormatAddr(e.addr)
}

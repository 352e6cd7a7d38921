package manual

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
)

// interfaces parses interfaces=, a list of ipsecN=DEVICE separated by blanks.
// %defaultroute means ipsec0 and the device of the default route. %none means an empty
// list.
func interfaces(p conf.Param, h host.Host) (list []host.Binding, err error) {
	words := strings.Fields(p.Value)
	for _, word := range words {
		b := host.Binding{Param: p}
		var ok bool
		switch b.Virtual, b.Physical, ok = strings.Cut(word, "="); {
		case word == "%none" && len(words) == 1:
			return nil, nil
		case word == "%none":
			return nil, p.Error("%none means no device; it must be the only word")
		case word == defaultRoute:
			b.Virtual, b.ByRoute = "ipsec0", true
			b.Physical, b.Missing = h.DefaultDevice()
		case !ok || b.Physical == "" || strings.ContainsAny(b.Physical, "=/"):
			return nil, p.Error(quote.Value(word) + ": write a virtual and a physical device, as in ipsec0=eth0")
		case !links.IsVirtual(b.Virtual):
			return nil, p.Error(quote.Value(b.Virtual) + " is no virtual device; these are ipsec0 to ipsec63")
		}
		if slices.ContainsFunc(list, func(o host.Binding) bool { return o.Virtual == b.Virtual }) {
			return nil, p.Error(b.Virtual + " is there twice")
		}
		list = append(list, b)
	}
	return list, nil
}

// attach returns the steps that make the connection's virtual device usable; none if it
// is usable already. The error is the reason why it cannot be made usable: packets that
// are routed into a device that is down or not attached are lost.
func (k *connection) attach(s *snapshot, h host.Host, n host.Network) ([]step.Step, error) {
	var d klips.Device
	i := slices.IndexFunc(s.devices, func(d klips.Device) bool { return d.Name == k.iface })
	if i >= 0 {
		d = s.devices[i]
	}
	b := k.binding()
	switch {
	case d.Physical != "" && b.Physical != "" && b.Physical != d.Physical && !b.ByRoute:
		return nil, b.Param.Error(fmt.Sprintf("%s=%s, but %s is attached to %s; detach it with ipsec tncfg --detach --virtual %s, or change the line",
			k.iface, quote.Value(b.Physical), k.iface, quote.Text(d.Physical), k.iface))
	case d.Physical != "" && k.attaches:
		return k.ready(d.Physical, n), nil
	case d.Physical != "" && k.me().updown == "":
		return nil, nil // the kernel itself refuses a route into a device that is down
	case d.Physical != "":
		return nil, k.checkUp(n)
	case b.Missing != nil:
		return nil, b.Param.Error(fmt.Sprintf("%s: %v; name the device, as in %s=eth0", defaultRoute, b.Missing, k.iface))
	case b.Physical == "":
		physical := h.DeviceOf(k.me().addr)
		if k.attaches && physical != "" {
			b.Physical = physical
			break
		}
		physical = quote.Value(cmp.Or(physical, "DEVICE"))
		return nil, fmt.Errorf("%s is attached to no device; do it with ipsec tncfg --attach --virtual %s --physical %s, or write interfaces=\"%s=%s\" into config setup",
			k.iface, k.iface, physical, k.iface, physical)
	}
	return append(k.bring(b.Physical, i >= 0), k.ready(b.Physical, n)...), nil
}

// bring returns the steps that attach the virtual device. exists: there is one.
func (k *connection) bring(physical string, exists bool) (steps []step.Step) {
	if !exists {
		create := k.ask(klips.CreateDevice{Virtual: k.iface})
		create.Undo = []step.Step{k.askIfThere(klips.DeleteDevice{Virtual: k.iface})}
		steps = append(steps, create)
	}
	attach := k.ask(klips.Attach{Virtual: k.iface, Physical: physical})
	attach.Undo = []step.Step{k.askIfThere(klips.Detach{Virtual: k.iface})}
	return append(steps, attach)
}

// ready returns the steps that give the virtual device the address of this end, and bring
// it up.
func (k *connection) ready(physical string, n host.Network) (steps []step.Step) {
	for _, p := range k.ownAddresses(n, physical) {
		steps = append(steps, step.Step{Address: &p, Device: k.iface})
	}
	if up, err := n.IsUp(k.iface); err != nil || !up {
		steps = append(steps, step.Step{Device: k.iface})
	}
	return steps
}

// binding returns the binding of the connection's virtual device; empty if the file has
// none. The default route may have come, or be another one, since the file was read: for
// %defaultroute it is the one that the connection's address is from.
func (k *connection) binding() (b host.Binding) {
	if i := slices.IndexFunc(k.bindings, func(b host.Binding) bool { return b.Virtual == k.iface }); i >= 0 {
		b = k.bindings[i]
	}
	if b.ByRoute && k.route.Device != "" && k.route.Local.Is4() {
		b.Physical, b.Missing = k.route.Device, nil
	}
	return b
}

// ownAddresses returns the address of this end on the physical device, to be added to the
// virtual device as KLIPS' setup did; without an end all addresses. Those that the virtual
// device has are left out. The addresses have a full-length prefix: with a shorter one the
// kernel would route the whole network through the virtual device. For IPv4 it would do so
// as soon as the physical device has another address.
func (k *connection) ownAddresses(n host.Network, physical string) (own []netip.Prefix) {
	list, err := n.Addresses(physical)
	if err != nil {
		return nil
	}
	// A device that will be created by attaching it has no addresses yet.
	has, _ := n.Addresses(k.iface)
	for _, p := range list {
		a := p.Addr()
		switch me := k.me().addr; {
		case me.IsValid() && a != me, !me.IsValid() && a.IsLinkLocalUnicast():
		case slices.ContainsFunc(has, func(h netip.Prefix) bool { return h.Addr() == a }):
		default:
			own = append(own, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return own
}

// checkUp returns an error for a virtual device that is down.
func (k *connection) checkUp(n host.Network) error {
	up, err := n.IsUp(k.iface)
	switch {
	case errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("there is no device %s in this network namespace; is the stack that of another one?", k.iface)
	case err != nil:
		return fmt.Errorf("%s: %w", k.iface, err)
	case !up:
		return fmt.Errorf("%s is down; ip link set %s up", k.iface, k.iface)
	}
	return nil
}

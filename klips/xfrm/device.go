package xfrm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/rtnl"
)

// Kinds of links used for virtual devices.
const (
	kindXfrm  = "xfrm"
	kindDummy = "dummy"
)

// alwaysThere is the number of devices that always exist, as in KLIPS: ipsec0 and
// ipsec1. While they are not attached they need no link.
const alwaysThere = 2

// isDevice reports whether a link is one of our virtual devices, and its number.
func isDevice(l *rtnl.Link) (int, bool) {
	n, ok := klips.DeviceNumber(l.Name)
	ok = ok && n < klips.MaxDevices &&
		(l.Kind == kindXfrm && l.IfID == uint32(n)+1 || l.Kind == kindDummy)
	return n, ok
}

// physicalOf returns the index of the device that a virtual device is attached to, 0 if
// it is not attached. A dummy device has it in its alias.
func physicalOf(l *rtnl.Link, all []rtnl.Link) int {
	if l.Kind == kindXfrm || l.Alias == "" {
		return l.Parent
	}
	if i := slices.IndexFunc(all, func(p rtnl.Link) bool { return p.Name == l.Alias }); i >= 0 {
		return all[i].Index
	}
	return 0
}

// attached returns the attached devices, by number.
func attached(all []rtnl.Link) (l []device) {
	for i := range all {
		n, ok := isDevice(&all[i])
		if !ok {
			continue
		}
		if p := physicalOf(&all[i], all); p != 0 {
			l = append(l, device{number: n, ifID: all[i].IfID, physical: p})
		}
	}
	arrange.Sort(l, func(a, b device) int { return cmp.Compare(a.number, b.number) })
	return l
}

// probeInterfaces finds out whether the kernel has xfrm interfaces: it sends a request
// that the kernel always refuses, with different errors.
func (s *Stack) probeInterfaces() bool {
	ctx := context.Background()
	if links, err := s.links.Links(ctx); err == nil {
		for i := range links {
			if _, ok := isDevice(&links[i]); ok {
				return links[i].Kind == kindXfrm
			}
		}
	}
	err := s.links.Add(ctx, rtnl.Spec{Name: "ipsecprobe", Kind: kindXfrm})
	if err == nil { // kernels that accept an interface ID of 0
		if l, err := s.links.Link(ctx, "ipsecprobe"); err == nil {
			s.links.Delete(ctx, l.Index)
		}
	}
	return !errors.Is(err, syscall.EOPNOTSUPP)
}

// spec returns the link for a device that is attached to a physical one, or to none.
func (s *Stack) spec(number int, physical *rtnl.Link) rtnl.Spec {
	sp := rtnl.Spec{Name: fmt.Sprint("ipsec", number), Kind: kindDummy}
	if s.interfaces() {
		sp.Kind, sp.IfID = kindXfrm, uint32(number)+1
	}
	if physical != nil {
		sp.MTU = klips.DeviceMTU
		if sp.Kind == kindXfrm {
			sp.Parent = physical.Index
		} else {
			sp.Alias = physical.Name
		}
	}
	return sp
}

// replace makes a new link for a device, because the kernel cannot attach an existing
// one. old is nil if there is none. Addresses and routes of the old link are kept;
// meanwhile packets to these routes are dropped. back restores the old state.
func (s *Stack) replace(ctx context.Context, old *rtnl.Link, sp rtnl.Spec, d *dump) (back func(context.Context) error, err error) {
	var held []rtnl.Held
	if old != nil {
		sp.Up = old.Up
		if sp.MTU == 0 {
			sp.MTU = old.MTU
		}
		if held, err = s.links.Hold(ctx, old.Index); err != nil {
			return nil, deviceError(err, sp)
		}
		if err := s.links.Delete(ctx, old.Index); err != nil {
			return nil, errors.Join(deviceError(err, sp), s.links.Release(context.WithoutCancel(ctx), held, old.Index))
		}
	}
	back = func(ctx context.Context) error {
		if err := s.links.HoldAgain(ctx, held); err != nil {
			return err
		}
		if l, err := s.links.Link(ctx, sp.Name); err == nil {
			if err := s.links.Delete(ctx, l.Index); err != nil {
				return err
			}
		}
		if old == nil {
			return nil
		}
		was := rtnl.Spec{Name: old.Name, Kind: old.Kind, MTU: old.MTU, Up: old.Up, Alias: old.Alias, IfID: old.IfID, Parent: old.Parent}
		return s.make(ctx, was, old, held, d)
	}
	if err := s.make(ctx, sp, old, held, d); err != nil {
		return nil, errors.Join(deviceError(err, sp), back(context.WithoutCancel(ctx)))
	}
	return back, nil
}

// make makes a link with the addresses of an old one, and its routes.
func (s *Stack) make(ctx context.Context, sp rtnl.Spec, old *rtnl.Link, held []rtnl.Held, d *dump) error {
	if err := s.links.Add(ctx, sp); err != nil || old == nil {
		return err
	}
	l, err := s.links.Link(ctx, sp.Name)
	if err != nil {
		return err
	}
	for _, a := range d.addrs {
		if a.Index != old.Index || a.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		a.Index = l.Index
		if err := s.links.AddAddr(ctx, a); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return s.links.Release(ctx, held, l.Index)
}

// deviceError adds the likely cause to the error of a link that cannot be made.
func deviceError(err error, sp rtnl.Spec) error {
	op := &klips.OpError{Object: sp.Name, Err: err}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		op.Err = errno
	}
	switch {
	case errors.Is(err, syscall.EPERM):
		op.Reason = noRight
	case errors.Is(err, syscall.EOPNOTSUPP):
		op.Reason = "the kernel has neither xfrm interfaces (module xfrm_interface, CONFIG_XFRM_INTERFACE) nor dummy devices (module dummy, CONFIG_DUMMY)"
	case errors.Is(err, syscall.EEXIST):
		op.Reason = fmt.Sprintf("another program has an xfrm interface with the ID %d", sp.IfID)
	}
	return op
}

// find returns the link of a virtual device, nil if it exists without one; ok is
// whether it exists.
func find(name string, all []rtnl.Link) (l *rtnl.Link, number int, ok bool) {
	number, ok = klips.DeviceNumber(name)
	if !ok {
		return nil, 0, false
	}
	for i := range all {
		if _, is := isDevice(&all[i]); is && all[i].Name == name {
			return &all[i], number, true
		}
	}
	return nil, number, number < alwaysThere
}

// deviceChange changes the devices and their objects, holding the lock. f gets the
// host's devices and addresses.
func (s *Stack) deviceChange(ctx context.Context, op, object string, f func(d *dump) error) error {
	if fault := klips.DeviceFault(object); fault != klips.FaultNone {
		return &klips.OpError{Op: op, Object: object, Err: syscall.EINVAL, Fault: fault}
	}
	unlock, err := s.lock.Acquire(ctx)
	if err != nil {
		return about(err, op, object)
	}
	defer unlock()
	d := &dump{}
	if d.links, d.addrs, err = s.host(ctx); err != nil {
		return about(err, op, object)
	}
	return about(f(d), op, object)
}

// Attach makes a virtual device attached to a physical one.
func (s *Stack) Attach(ctx context.Context, virtual, physical string) error {
	physical, _, _ = strings.Cut(physical, ":") // an alias is not a device of its own
	return s.deviceChange(ctx, "attach", virtual, func(d *dump) error {
		old, number, ok := find(virtual, d.links)
		if !ok {
			return refuse("", virtual, syscall.ENODEV, "")
		}
		i := slices.IndexFunc(d.links, func(l rtnl.Link) bool { return l.Name == physical })
		if i < 0 {
			return refuse("", physical, syscall.ENXIO, "")
		}
		if old != nil && physicalOf(old, d.links) != 0 {
			return refuse("", virtual, syscall.EBUSY, "")
		}
		if old == nil && slices.ContainsFunc(d.links, func(l rtnl.Link) bool { return l.Name == virtual }) {
			return refuse("", virtual, syscall.EEXIST, "another program has made a device of that name")
		}
		sp := s.spec(number, &d.links[i])
		move := func(l []device) []device {
			l = append(l, device{number: number, ifID: sp.IfID, physical: d.links[i].Index})
			arrange.Sort(l, func(a, b device) int { return cmp.Compare(a.number, b.number) })
			return l
		}
		return s.withDevice(ctx, move, func() (func(context.Context) error, error) { return s.replace(ctx, old, sp, d) })
	})
}

// withDevice changes the attached devices by move, checks that the tables can be
// compiled, changes a device, and updates the objects. If the update fails, it changes
// the device back.
func (s *Stack) withDevice(ctx context.Context, move func([]device) []device, change func() (func(context.Context) error, error)) error {
	t, have, d, err := s.load(ctx)
	if err != nil {
		return err
	}
	defer d.clear()
	t.devices = move(t.devices)
	if _, err := t.compile(); err != nil {
		return err
	}
	back, err := change()
	if err != nil {
		return err
	}
	if _, err := s.follow(ctx, t, have, d, nil); err != nil {
		return errors.Join(err, back(context.WithoutCancel(ctx)))
	}
	return nil
}

// Detach unbinds a virtual device.
func (s *Stack) Detach(ctx context.Context, virtual string) error {
	return s.deviceChange(ctx, "detach", virtual, func(d *dump) error {
		old, number, _ := find(virtual, d.links)
		if old == nil || physicalOf(old, d.links) == 0 {
			return refuse("", virtual, syscall.ENODEV, "")
		}
		return s.withDevice(ctx, without(number), func() (func(context.Context) error, error) {
			return s.replace(ctx, old, s.spec(number, nil), d)
		})
	})
}

// without returns a function that removes a device from the attached ones.
func without(number int) func([]device) []device {
	return func(l []device) []device {
		return slices.DeleteFunc(l, func(x device) bool { return x.number == number })
	}
}

// DetachAll unbinds all virtual devices.
func (s *Stack) DetachAll(ctx context.Context) error {
	l, err := s.Devices(ctx)
	if err != nil {
		return about(err, "detach", "")
	}
	for _, d := range l {
		if d.Physical == "" {
			continue
		}
		if err := s.Detach(ctx, d.Name); err != nil && !errors.Is(err, syscall.ENODEV) {
			return err
		}
	}
	return nil
}

// CreateDevice makes ipsecN without attaching it.
func (s *Stack) CreateDevice(ctx context.Context, virtual string) error {
	return s.deviceChange(ctx, "create device", virtual, func(d *dump) error {
		n, ok := klips.DeviceNumber(virtual)
		switch _, _, there := find(virtual, d.links); {
		case !ok:
			return refuse("", virtual, syscall.EINVAL, "")
		case n < 0 || n >= klips.MaxDevices:
			return refuse("", virtual, syscall.ENOENT, "")
		case there:
			return refuse("", virtual, syscall.EEXIST, "")
		}
		_, err := s.replace(ctx, nil, s.spec(n, nil), d)
		return err
	})
}

// DeleteDevice removes ipsecN, and detaches it first.
func (s *Stack) DeleteDevice(ctx context.Context, virtual string) error {
	return s.deviceChange(ctx, "delete device", virtual, func(d *dump) error {
		old, number, ok := find(virtual, d.links)
		if !ok {
			return refuse("", virtual, syscall.ENOENT, "")
		}
		if old == nil {
			return refuse("", virtual, syscall.EOPNOTSUPP, "ipsec0 and ipsec1 are always there, and this one is no link of the kernel at the moment")
		}
		if physicalOf(old, d.links) == 0 {
			return s.links.Delete(ctx, old.Index) // no object depends on it
		}
		return s.withDevice(ctx, without(number), func() (func(context.Context) error, error) {
			back := func(ctx context.Context) error {
				_, err := s.replace(ctx, nil, rtnl.Spec{Name: old.Name, Kind: old.Kind, MTU: old.MTU, Alias: old.Alias, IfID: old.IfID, Parent: old.Parent}, d)
				return err
			}
			return back, s.links.Delete(ctx, old.Index)
		})
	})
}

// Devices lists the virtual devices.
func (s *Stack) Devices(ctx context.Context) ([]klips.Device, error) {
	all, err := s.links.Links(ctx)
	if err != nil {
		return nil, &klips.OpError{Op: "list devices", Err: err}
	}
	found := map[int]*rtnl.Link{}
	for n := range alwaysThere {
		found[n] = nil
	}
	for i := range all {
		if n, ok := isDevice(&all[i]); ok {
			found[n] = &all[i]
		}
	}
	var devices []klips.Device
	for n := range klips.MaxDevices {
		l, ok := found[n]
		if !ok {
			continue
		}
		d := klips.Device{Name: fmt.Sprint("ipsec", n)}
		if l != nil {
			describe(&d, l, all)
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// describe fills in a device's fields from its link.
func describe(d *klips.Device, l *rtnl.Link, all []rtnl.Link) {
	p := physicalOf(l, all)
	// A device that was never attached has the kernel's default MTU, which has no
	// meaning.
	if p != 0 || l.MTU == klips.DeviceMTU {
		d.MTU = l.MTU
	}
	for i := range all {
		if all[i].Index == p {
			d.Physical, d.PhysMTU, d.AttMTU = all[i].Name, all[i].MTU, all[i].MTU
		}
	}
	st := l.Stats
	d.Stats = klips.DeviceStats{
		TxPackets: st.TxPackets, TxBytes: st.TxBytes, TxErrors: st.TxErrors, TxDropped: st.TxDropped,
		RxPackets: st.RxPackets, RxBytes: st.RxBytes, RxErrors: st.RxErrors, RxDropped: st.RxDropped,
	}
}

package module

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

const (
	maxDevices  = 64    // of each kind
	attachedMTU = 16260 // of an ipsec device; it stays when the device is detached
	ipsec0      = 49152 // the number of ipsec0 in messages
)

// A device is ipsecN.
type device struct {
	name     string
	physical string // "" while detached
	mtu      int
	attached int // MTU of the physical device when it was attached
}

// SetPhysical makes a physical device, or changes its MTU.
func (m *Module) SetPhysical(name string, mtu int) { m.physical[name] = mtu }

// TakeDown takes a physical device down: the first ipsec device on it is
// detached.
func (m *Module) TakeDown(name string) {
	for _, d := range m.devices {
		if d != nil && d.physical == name {
			d.detach()
			return
		}
	}
}

func (d *device) detach() { d.physical, d.attached = "", 0 }

// device returns an ipsec device, or the errno of an ioctl that does not reach KLIPS.
func (m *Module) device(name string) (*device, syscall.Errno) {
	i := slices.IndexFunc(m.devices[:], func(d *device) bool { return d != nil && d.name == name })
	if i >= 0 {
		return m.devices[i], 0
	}
	if _, other := m.physical[name]; other || m.has(name) {
		return nil, syscall.EOPNOTSUPP
	}
	return nil, syscall.ENODEV
}

// has reports whether there is an ipsec or mast device of that name.
func (m *Module) has(name string) bool {
	for n := range m.masts {
		if name == fmt.Sprint("mast", n) {
			return true
		}
	}
	return slices.ContainsFunc(m.devices[:], func(d *device) bool { return d != nil && d.name == name })
}

// Attach is the ioctl IPSEC_SET_DEV.
func (m *Module) Attach(virtual, physical string) syscall.Errno {
	d, errno := m.device(virtual)
	if errno != 0 {
		return errno
	}
	physical, _, _ = strings.Cut(physical, ":") // an alias means its device
	mtu, ok := m.physical[physical]
	switch {
	case !ok && !m.has(physical):
		return syscall.ENXIO
	case d.physical != "":
		return syscall.EBUSY
	}
	d.physical, d.mtu, d.attached = physical, attachedMTU, mtu
	return 0
}

// Detach is the ioctl IPSEC_DEL_DEV.
func (m *Module) Detach(virtual string) syscall.Errno {
	d, errno := m.device(virtual)
	if errno == 0 && d.physical == "" {
		errno = syscall.ENODEV
	}
	if errno != 0 {
		return errno
	}
	d.detach()
	return 0
}

// DetachAll is the ioctl IPSEC_CLR_DEV. It may name any virtual device.
func (m *Module) DetachAll(virtual string) syscall.Errno {
	if _, errno := m.device(virtual); errno != 0 {
		return errno
	}
	for _, d := range m.devices {
		if d != nil {
			d.detach()
		}
	}
	return 0
}

// An Encap is a UDP socket on which IPSEC_UDP_ENCAP_CONVERT accepts ESP.
type Encap struct {
	Device string
	Socket int // the descriptor in the requesting process
	Type   klips.NATTType
}

// Encap is the ioctl IPSEC_UDP_ENCAP_CONVERT on any ipsec device.
func (m *Module) Encap(virtual string, socket int, t klips.NATTType) syscall.Errno {
	if _, errno := m.device(virtual); errno != 0 {
		return errno
	}
	if t != klips.NATTNonIKE && t != klips.NATTNonESP {
		return syscall.EINVAL
	}
	m.encaps = append(m.encaps, Encap{virtual, socket, t})
	return 0
}

// Encaps returns the requests to [Module.Encap], in order.
func (m *Module) Encaps() []Encap { return slices.Clone(m.encaps) }

// plumb carries out X_PLUMBIF and X_UNPLUMBIF and returns the errno of the answer.
// ipsec0 can be neither made nor deleted, but the kernel reports success.
func (m *Module) plumb(number int, create bool) syscall.Errno {
	if number == ipsec0 {
		return 0
	}
	i, mast := number-ipsec0, false
	if i < 0 {
		i, mast = number, true
	}
	if i >= maxDevices {
		return syscall.ENOENT
	}
	there := m.devices[i] != nil
	if mast {
		there = m.masts[i]
	}
	switch {
	case create && there:
		return syscall.EEXIST
	case !create && !there:
		return syscall.ENOENT
	case mast && create:
		m.masts[i] = true
	case mast:
		delete(m.masts, i)
	case create:
		m.devices[i] = &device{name: pfkey.DeviceName(uint16(number))}
	default:
		m.devices[i] = nil
	}
	return 0
}

// SetStats sets the counters of a network device, of either kind. Only the table dev
// has them.
func (m *Module) SetStats(name string, s klips.DeviceStats) { m.stats[name] = s }

package engine

import (
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/overhead"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Programs on the host use the MTU of the virtual device. TCP chooses its segments by it.
// The host fragments longer datagrams before they reach the engine, also those of
// programs that discover the path MTU. So the MTU is the longest packet that fits the
// physical device after the SAs have transformed it. With the 16260 of KLIPS the first
// long packet to each destination is lost in some modes, and its program gets an error.
// If another MTU is set by hand, it stays until the device is attached again.

// shownMTU returns the MTU for the listings. If the engine has chosen the MTU, that is
// the number that KLIPS lists.
func (d *device) shownMTU() int {
	mtu, _ := d.link.MTU()
	if mtu == d.chosenMTU {
		return klips.DeviceMTU
	}
	return mtu
}

// chooseLocked sets the MTU of a device that was just attached, or the MTU that its
// groups need now. The caller holds devMu.
func (e *Engine) chooseLocked(d *device, a *attachment) error {
	mtu := klips.DeviceMTU
	if e.knobs.mtuRule.Load() != mtuKLIPS {
		mtu = min(max(a.wire.MTU(), minMTU6), klips.DeviceMTU) // the MTU of lo is too large for TUN devices
		for _, sa := range e.sas.All() {
			if chain, head := sa.Snapshot(); head && sa.Dir.Sends() {
				mtu = min(mtu, roomOf(chain, a.wire))
			}
		}
	}
	return e.setMTULocked(d, mtu)
}

// setMTULocked sets the MTU that was chosen for a device. It records it for the engine that
// takes the device up.
func (e *Engine) setMTULocked(d *device, mtu int) error {
	if err := d.link.SetMTU(mtu); err != nil {
		return err
	}
	was := d.chosenMTU
	d.chosenMTU = mtu
	if e.keeping && d.wanted != "" && mtu != was {
		_ = d.link.Keep(d.wanted, mtu, d.direct) // on an error the next engine leaves this MTU alone
	}
	return nil
}

// adoptMTULocked keeps the MTU of a device that is attached again, if another program or a
// person has set it. Otherwise it chooses the MTU anew: the physical device may be another
// one now.
func (e *Engine) adoptMTULocked(d *device, a *attachment) {
	if d.choosesLocked() {
		_ = e.chooseLocked(d, a)
	}
}

// takeUpMTULocked records which MTU the previous engine chose for a device that is taken
// up. The device keeps that MTU for the SAs that will be made again, unless the physical
// device has a smaller one now.
func (e *Engine) takeUpMTULocked(d *device, chosen int) {
	d.chosenMTU = chosen
	if a := d.att.Load(); a != nil && chosen > a.wire.MTU() {
		e.adoptMTULocked(d, a)
	}
}

// roomOf returns the length in bytes of the longest packet that an outbound group makes fit a
// wire. It is at least minMTU6 in IPv6.
func roomOf(group []*sadb.SA, w Wire) int {
	p := overhead.Plain(4, 0)
	if group[0].ID.Dst.Is6() { // a tunnel adds the same to both families
		p = overhead.Plain(6, 0)
	}
	return max(longest(p, group, linkMTU(group[len(group)-1], w)), minMTU6)
}

// heed reads the MTU of the route to the destination of an SA, and lowers the MTUs of devices
// if the group of the SA needs that, and the engine has chosen them.
func (e *Engine) heed(sa *sadb.SA) {
	if !sa.Dir.Sends() {
		return
	}
	e.devMu.Lock()
	defer e.devMu.Unlock()
	e.readRouteLocked(sa, nil)
	chain, head := sa.Snapshot()
	if !head {
		return // it was put into a group meanwhile
	}
	for _, d := range e.devicesLocked() {
		a := d.att.Load()
		if a == nil {
			continue
		}
		if mtu := roomOf(chain, a.wire); mtu < d.chosenMTU && d.choosesLocked() {
			_ = e.setMTULocked(d, mtu) // a device that is going needs none
		}
	}
}

// choosesLocked reports whether the engine has chosen the MTU of the device. Otherwise it
// was set by hand, or is that of KLIPS.
func (d *device) choosesLocked() bool {
	mtu, err := d.link.MTU()
	return err == nil && mtu == d.chosenMTU && mtu != klips.DeviceMTU
}

// reconsiderAfter is how long a device keeps an MTU that is smaller than necessary.
const reconsiderAfter = time.Second

// reconsider chooses all MTUs again some time after SAs were removed: once for many SAs.
func (e *Engine) reconsider() {
	if e.reconsidering.CompareAndSwap(false, true) {
		e.clock.AfterFunc(reconsiderAfter, func() {
			e.reconsidering.Store(false)
			e.chooseAll()
		})
	}
}

// chooseAll chooses the MTUs of all devices again whose MTU the engine has chosen.
func (e *Engine) chooseAll() {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	if e.closed {
		return
	}
	for _, d := range e.devicesLocked() {
		if a := d.att.Load(); a != nil && d.choosesLocked() {
			_ = e.chooseLocked(d, a) // a device that is being removed needs none
		}
	}
}

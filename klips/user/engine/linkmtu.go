package engine

import (
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// The MTU of a virtual device is what the host's own programs go by: TCP chooses its
// segments by it, and the host cuts longer datagrams before they come here, also those of
// programs that want to find out the path MTU. So it is what fits the physical device with
// what the SAs add. With the 16260 of KLIPS the first long packet to each destination is
// lost in some modes, and its program gets an error. Who sets another MTU keeps it until
// the device is attached again.

// shownMTU is the MTU that is listed for a device: while it has one that was chosen here,
// the number that KLIPS lists.
func (d *device) shownMTU() int {
	mtu, _ := d.link.MTU()
	if mtu == d.chosenMTU {
		return klips.DeviceMTU
	}
	return mtu
}

// chooseLocked gives a device that has just been attached its MTU, or the one that its
// groups need now. The caller holds devMu.
func (e *Engine) chooseLocked(d *device, a *attachment) error {
	mtu := klips.DeviceMTU
	if e.knobs.mtuRule.Load() != mtuKLIPS {
		mtu = min(max(a.wire.MTU(), minMTU6), klips.DeviceMTU) // no TUN device can have that of lo
		for _, sa := range e.sas.All() {
			if chain, head := sa.Snapshot(); head && sa.Dir.Sends() {
				mtu = min(mtu, roomOf(chain, a.wire.MTU()))
			}
		}
	}
	if err := d.link.SetMTU(mtu); err != nil {
		return err
	}
	d.chosenMTU = mtu
	return nil
}

// adoptMTULocked lets a device that is attached as it was keep its MTU. Whether the engine
// before has chosen that is not known where that was killed: one in this range counts as
// chosen.
func (e *Engine) adoptMTULocked(d *device, a *attachment) {
	mtu, err := d.link.MTU()
	switch {
	case err != nil:
	case d.chosenMTU == 0 && minMTU6 <= mtu && mtu <= max(a.wire.MTU(), minMTU6):
		d.chosenMTU = mtu
	case d.choosesLocked(): // the physical device may be another one
		_ = e.chooseLocked(d, a)
	}
}

// roomOf is how long a packet may be for an outbound group to make one of at most limit
// bytes of it; IPv6 needs minMTU6 on any device.
func roomOf(group []*sadb.SA, limit int) int {
	s := shape{version: 4, header: 20}
	if group[0].ID.Dst.Is6() { // what a tunnel carries does not matter
		s = shape{version: 6, header: 40}
	}
	return max(longest(s, group, limit), minMTU6)
}

// heed lowers the MTU of devices for the group of an SA, if they have one that was chosen
// here.
func (e *Engine) heed(sa *sadb.SA) {
	if !sa.Dir.Sends() {
		return
	}
	chain, head := sa.Snapshot()
	if !head {
		return // it has been grouped meanwhile
	}
	e.devMu.Lock()
	defer e.devMu.Unlock()
	for _, d := range e.devicesLocked() {
		a := d.att.Load()
		if a == nil {
			continue
		}
		if mtu := roomOf(chain, a.wire.MTU()); mtu < d.chosenMTU && d.choosesLocked() && d.link.SetMTU(mtu) == nil {
			d.chosenMTU = mtu
		}
	}
}

// choosesLocked reports whether the device has the MTU that was chosen here, not that of
// somebody else, or of KLIPS.
func (d *device) choosesLocked() bool {
	mtu, err := d.link.MTU()
	return err == nil && mtu == d.chosenMTU && mtu != klips.DeviceMTU
}

// reconsiderAfter is how long a device keeps an MTU that it need not have any more.
const reconsiderAfter = time.Second

// reconsider chooses MTUs anew some time after SAs have gone: not for each of many.
func (e *Engine) reconsider() {
	if e.reconsidering.CompareAndSwap(false, true) {
		e.clock.AfterFunc(reconsiderAfter, func() {
			e.reconsidering.Store(false)
			e.chooseAll()
		})
	}
}

// chooseAll chooses the MTUs anew of all devices that have one that was chosen here.
func (e *Engine) chooseAll() {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	if e.closed {
		return
	}
	for _, d := range e.devicesLocked() {
		if a := d.att.Load(); a != nil && d.choosesLocked() {
			_ = e.chooseLocked(d, a) // a device that is going needs none
		}
	}
}

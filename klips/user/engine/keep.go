package engine

import (
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// TakeUp opens all devices that an engine before has left, and attaches them as they
// were. What is routed into them is protected or dropped, as before. If a device cannot be
// attached now, failed is called with the error, and the device is attached when its
// physical device is up. failed may be nil. Errors are *[klips.OpError].
func (e *Engine) TakeUp(failed func(device string, err error)) error {
	left, err := e.host.LeftLinks()
	if err != nil {
		return &klips.OpError{Op: "list devices", Err: err}
	}
	for _, l := range left {
		if err := e.createDevice(l.Name); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
		if l.Physical == "" {
			continue
		}
		if err := e.takeUp(l); err != nil && failed != nil {
			failed(l.Name, err)
		}
	}
	return nil
}

// takeUp attaches a device as it was left, now or when its physical device is up.
func (e *Engine) takeUp(l LeftLink) error {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	d := e.deviceLocked(l.Name)
	if d == nil {
		return deviceError("attach", l.Name, syscall.ENODEV)
	}
	_, err := e.attachLocked(d, l.Physical, l.Direct, true) // it is new and has no attachment to replace
	e.takeUpMTULocked(d, l.ChosenMTU)
	if err != nil {
		d.wanted, d.direct = l.Physical, l.Direct
		e.awaitLocked(d)
	}
	return err
}

// KeepDevices makes all devices outlive the engine that were attached before, or will be.
// After the engine has ended, packets that are routed into them are dropped and do not
// leave in clear, until the devices are removed or taken up.
func (e *Engine) KeepDevices() error {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	for _, d := range e.devicesLocked() {
		if d.wanted == "" {
			continue
		}
		if err := d.link.Keep(d.wanted, d.chosenMTU, d.direct); err != nil {
			return deviceError("keep device", d.link.Name(), err)
		}
	}
	e.keeping = true
	return nil
}

// RemoveDevices removes all devices.
func (e *Engine) RemoveDevices() {
	e.devMu.Lock()
	l := e.devicesLocked()
	e.devMu.Unlock()
	for _, d := range l {
		_ = e.deleteDevice(d.link.Name()) // it may be removed already
	}
}

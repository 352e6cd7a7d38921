package engine

import (
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// TakeUp makes devices of all that an engine before has left, and attaches them as
// they were: what is routed into them is protected or dropped, as before. What
// cannot be attached stays as it is, and failed is told; failed may be nil. Errors
// are *[klips.OpError].
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
		_, err := e.attachOver(l.Name, l.Physical, true)
		if err == nil {
			continue
		}
		e.devMu.Lock()
		if d := e.deviceLocked(l.Name); d != nil {
			d.wanted = l.Physical
		}
		e.devMu.Unlock()
		if failed != nil {
			failed(l.Name, err)
		}
	}
	return nil
}

// KeepDevices lets the devices outlive the engine that were ever attached, or will
// be: what is routed into them is dropped then, and does not leave in clear, until
// they are removed or taken up.
func (e *Engine) KeepDevices() error {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	for _, d := range e.devicesLocked() {
		if d.wanted == "" {
			continue
		}
		if err := d.link.Keep(d.wanted); err != nil {
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
		_ = e.deleteDevice(d.link.Name()) // one that has gone meanwhile is no error
	}
}

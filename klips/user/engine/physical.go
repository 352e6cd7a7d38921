package engine

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
)

// This file handles an attachment when its physical device goes down, is removed, comes
// back, is renamed or is replaced.
//
// An attachment is to a device, not to a name. If eth0 is renamed to wan0, the attachment
// stays, because it is the same link. KLIPS does the same: it holds a reference to the
// device. A removed device does not come back. A new device with its name replaces it, as
// when a driver is loaded again or a USB adapter is plugged in again.
//
// Until then the virtual device has no attachment, as in KLIPS, and drops what is routed
// into it. In KLIPS a command must attach it again. Here that would leave a tunnel dead
// for ever after one unplugged cable, because nobody watches it.

// awaited is a physical device that a virtual device waits for.
type awaited struct{ stop func() }

// awaitLocked makes the engine attach a device again when its physical device is up.
func (e *Engine) awaitLocked(d *device) {
	d.awaitNothing()
	w := new(awaited)
	w.stop = e.host.WhenUp(d.wanted, d.wantedIndex, func(name string) { go e.found(d, w, name) })
	d.awaited = w
}

// awaitNothing ends the waiting. The caller holds devMu.
func (d *device) awaitNothing() {
	if d.awaited != nil {
		d.awaited.stop()
		d.awaited = nil
	}
}

// lost detaches a device whose physical device is down or was removed, until that is up
// again. SAs and eroutes stay.
func (e *Engine) lost(d *device, a *attachment) {
	e.devMu.Lock()
	is := d.att.Load() == a && !d.closing.Load()
	if is {
		e.detachLocked(d)
		e.awaitLocked(d)
	}
	e.devMu.Unlock()
	if !is {
		return
	}
	a.retire()
	e.inform(slog.LevelWarn, "the physical device is down or gone: detached until it is up", d, a.wire.Name())
}

// found attaches a device whose physical device is up, which may have a new name, unless
// a command has attached or detached the device meanwhile.
func (e *Engine) found(d *device, w *awaited, physical string) {
	e.devMu.Lock()
	if d.awaited != w || d.closing.Load() || e.closed {
		e.devMu.Unlock()
		return
	}
	d.awaited = nil
	before := d.wantedIndex
	_, err := e.attachLocked(d, physical, d.direct, true) // there is no attachment to replace
	gone := errors.Is(err, syscall.ENXIO)
	if gone { // it was removed again
		e.awaitLocked(d)
	}
	replaced := err == nil && before != 0 && before != d.wantedIndex
	e.devMu.Unlock()
	switch {
	case gone:
	case err != nil:
		e.inform(slog.LevelError, "it cannot be attached again", d, physical, slog.Any("err", err))
	case replaced:
		e.inform(slog.LevelWarn, "attached to another physical device of the same name, in place of the one that is gone", d, physical)
	default:
		e.inform(slog.LevelInfo, "attached again: the physical device is up", d, physical)
	}
}

// renamed keeps an attachment whose physical device has a new name, and records the new
// name for the engine that takes the device up.
func (e *Engine) renamed(d *device, a *attachment) {
	e.devMu.Lock()
	if d.att.Load() != a || d.closing.Load() || d.wanted == a.wire.Name() {
		e.devMu.Unlock()
		return
	}
	before := d.wanted
	d.wanted = a.wire.Name()
	now := d.wanted
	var err error
	if e.keeping {
		err = d.link.Keep(now, d.chosenMTU, d.direct)
	}
	e.devMu.Unlock()
	e.inform(slog.LevelInfo, "the physical device has another name and stays attached", d, now, slog.String("before", before))
	if err != nil {
		e.inform(slog.LevelError, "its new name cannot be written down", d, now, slog.Any("err", err))
	}
}

// inform writes a line about a device into the log, whatever the debug masks are, since
// no command has caused the change.
func (e *Engine) inform(level slog.Level, what string, d *device, physical string, attrs ...slog.Attr) {
	if e.trace.log == nil {
		return
	}
	attrs = append([]slog.Attr{slog.String("device", d.link.Name()), slog.String("physical", physical)}, attrs...)
	e.trace.log.LogAttrs(context.Background(), level, what, attrs...)
}

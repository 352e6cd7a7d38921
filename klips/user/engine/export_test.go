package engine

import (
	"fmt"

	"github.com/klips-go/ipsec/klips"
)

// SetSeq makes an SA go on after sequence number last, as if it had sent it.
func (e *Engine) SetSeq(id klips.SAID, last uint64) { e.sas.Lookup(id).Seq.Store(last) }

// SetReceived makes an SA go on after sequence number last, as if it had been
// received; the SA has a replay window.
func (e *Engine) SetReceived(id klips.SAID, last uint64) { e.sas.Lookup(id).Replay.Update(last) }

// SetRemembered makes an SA one whose key has been used up to a number by an earlier SA.
func (e *Engine) SetRemembered(id klips.SAID, last uint64) { e.sas.Lookup(id).Remembered = last }

// SetLimit makes last the number up to which an SA may send at present.
func (e *Engine) SetLimit(id klips.SAID, last uint64) { e.sas.Lookup(id).SetLimit(last) }

// Awaits reports whether a device waits for its physical one.
func (e *Engine) Awaits() bool {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	for _, d := range e.devicesLocked() {
		if d.awaited != nil {
			return true
		}
	}
	return false
}

// Kept returns how many packets are kept: for %hold, and fragments that wait for others.
func (e *Engine) Kept() (n int) {
	for i := range klips.MaxDevices {
		n += e.Fragments(fmt.Sprint("ipsec", i))
	}
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	for _, h := range e.holds.byRoute {
		for _, p := range []*heldPacket{h.first, h.last} {
			if p != nil {
				n++
			}
		}
	}
	return n
}

// Limit returns the number up to which an SA may send at present.
func (e *Engine) Limit(id klips.SAID) uint64 { return e.sas.Lookup(id).Limit() }

// Fragments returns how many fragments wait in a device for others.
func (e *Engine) Fragments(name string) int {
	e.devMu.Lock()
	var a *attachment
	if d := e.deviceLocked(name); d != nil {
		a = d.att.Load()
	}
	e.devMu.Unlock()
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cut.table == nil {
		return 0
	}
	return a.cut.table.Len()
}

// Hear takes a packet that may be an ICMP message.
func (e *Engine) Hear(p []byte) { e.hear(p, e.now()) }

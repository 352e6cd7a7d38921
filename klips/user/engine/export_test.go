package engine

import (
	"fmt"

	"github.com/klips-go/ipsec/klips"
)

// SetSeq makes an SA continue after sequence number last, as if it had sent it.
func (e *Engine) SetSeq(id klips.SAID, last uint64) { e.sas.Lookup(id).Seq.Store(last) }

// SetReceived makes an SA continue after sequence number last, as if it had received it.
// The SA must have a replay window.
func (e *Engine) SetReceived(id klips.SAID, last uint64) { e.sas.Lookup(id).Replay.Update(last) }

// SetRemembered sets the number up to which an earlier SA has used the key of an SA.
func (e *Engine) SetRemembered(id klips.SAID, last uint64) { e.sas.Lookup(id).Remembered = last }

// SetLimit sets the number up to which an SA may send now.
func (e *Engine) SetLimit(id klips.SAID, last uint64) { e.sas.Lookup(id).SetLimit(last) }

// Lent reports whether the inbound worker is lent to a worker of a device.
func (e *Engine) Lent() bool { return e.loan.borrower.Load() != nil }

// Awaits reports whether a device waits for its physical one, or is being removed.
func (e *Engine) Awaits() bool {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	for _, d := range e.devs {
		if d != nil && (d.awaited != nil || d.closing.Load()) {
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

// Limit returns the number up to which an SA may send now.
func (e *Engine) Limit(id klips.SAID) uint64 { return e.sas.Lookup(id).Limit() }

// Fragments returns how many fragments in a device wait for others.
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
	a.cut.mu.Lock()
	defer a.cut.mu.Unlock()
	if a.cut.table == nil {
		return 0
	}
	return a.cut.table.Len()
}

// Hear processes a packet that may be an ICMP message.
func (e *Engine) Hear(p []byte) { e.hear(p, e.now()) }

// EroutesByAge returns the eroutes in the order in which they were made. It decides between
// two eroutes of which neither is narrower.
func (e *Engine) EroutesByAge() (l []klips.Eroute) {
	for _, r := range e.routes.ByAge() {
		l = append(l, r.Eroute())
	}
	return l
}

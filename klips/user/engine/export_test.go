package engine

import "github.com/klips-go/ipsec/klips"

// SetSeq makes an SA go on after sequence number last, as if it had sent it.
func (e *Engine) SetSeq(id klips.SAID, last uint64) { e.sas.Lookup(id).Seq.Store(last) }

// SetReceived makes an SA go on after sequence number last, as if it had been
// received; the SA has a replay window.
func (e *Engine) SetReceived(id klips.SAID, last uint64) { e.sas.Lookup(id).Replay.Update(last) }

// Limit returns the number up to which an SA may send at present.
func (e *Engine) Limit(id klips.SAID) uint64 { return e.sas.Lookup(id).Limit() }

package engine

import (
	"errors"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// unfinished are the packets of a batch that have all their headers, but are not yet
// encrypted or authenticated. Many packets take less time together.
type unfinished struct {
	esp *esp.Queue
	ah  *ah.Queue
}

// unfinishedPackets is how many packets are finished together at most. They are still in
// the processor's caches then.
const unfinishedPackets = 32

func newUnfinished() unfinished {
	return unfinished{esp.NewQueue(unfinishedPackets), ah.NewQueue(unfinishedPackets)}
}

// finish finishes all packets. ESP comes first, because AH authenticates what it makes.
func (u *unfinished) finish() {
	u.esp.Finish()
	u.ah.Finish()
}

// before finishes the packet in b if an SA needs its final bytes. AH over ESP does not:
// both can wait.
func (u *unfinished) before(sa *sadb.SA, b *packet.Buffer) {
	if b.Due != 0 && (b.Due != packet.DueESP || sa.ID.Proto != klips.ProtoAH) {
		u.finish()
	}
}

// beforeUDP finishes the packet in b if a UDP header needs its final bytes, or moves bytes
// that AH authenticates. Over IPv6 there is a checksum.
func (u *unfinished) beforeUDP(b *packet.Buffer, h *packet.Header) {
	if b.Due != 0 && (b.Due != packet.DueESP || h.Version == 6) {
		u.finish()
	}
}

// layAH adds AH to a packet.
func (u *unfinished) layAH(s *ah.Sealer, b *packet.Buffer, h *packet.Header, seq uint64) error {
	if !u.ah.Takes(h) {
		u.finish()
	}
	return s.Lay(u.ah, b, h, seq)
}

var errUnfinished = errors.New("the packet is not encrypted or not authenticated")

// transmit sends the packets in ready, which is empty afterwards, and counts those that
// fail in w.failed. Whatever has gone wrong before, it never sends an unfinished packet.
func (w *outWorker) transmit() {
	finished := w.ready[:0]
	for _, b := range w.ready {
		if b.Due != 0 {
			w.fail(b, errUnfinished)
			continue
		}
		finished = append(finished, b)
	}
	if len(finished) > 0 {
		w.att.wire.Send(finished, w.fail, w.full)
	}
	w.ready = w.ready[:0]
}

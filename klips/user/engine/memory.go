package engine

import (
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Costs in bytes of one object each, with all that it needs while the packets of one
// device use it. TestCosts measures them.
const (
	saCost         = 5 << 10
	compressorCost = 1 << 20 // of an outbound comp SA
	erouteCost     = 1 << 9
	alsoCost       = 1 << 5 // of a further SA of an eroute
	batchCost      = batchSize * packet.BufferSize
)

// deviceCost returns what a device needs, or the worker for inbound packets.
func deviceCost(lanes int) int64 { return batchCost * int64(1+(lanes-1)*parcels) }

// usualDevices is how many devices a daemon makes when it starts.
const usualDevices = 2

// BaseMemory returns how many bytes an engine with so many lanes needs with two devices and
// nothing else. It counts the buffers of its workers, of which only large packets use most,
// and the needs of an idle program.
func BaseMemory(lanes int) uint64 {
	return uint64((1+usualDevices)*deviceCost(lanes)) + 4<<20
}

func costOf(sa *sadb.SA) int64 {
	if sa.ID.Proto == klips.ProtoComp && sa.Dir.Sends() {
		return saCost + compressorCost
	}
	return saCost
}

// roomForEroute is room for an eroute that is made, or that replaces old unless that is nil.
func (e *Engine) roomForEroute(r *klips.Eroute, old *eroute.Entry) error {
	more := int64(len(r.Also)-len(old.Also())) * alsoCost
	switch {
	case old == nil:
		more += erouteCost
	case more <= 0:
		return nil
	}
	return e.room(more)
}

// room returns ENOBUFS if so many bytes more exceed the memory limit. Goroutines that
// call it at the same time may all get nil.
func (e *Engine) room(more int64) error {
	if e.memory == 0 {
		return nil
	}
	used := e.saMemory.Load() + e.holds.memory.Load() + int64(e.routes.Len())*erouteCost + int64(e.routes.LenAlso())*alsoCost +
		max(int64(e.numDevices.Load())-usualDevices, 0)*deviceCost(e.lanes)
	if used+more > e.memory {
		return syscall.ENOBUFS
	}
	return nil
}

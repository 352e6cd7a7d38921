package engine

import (
	"math"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// What one of each takes, in bytes, with all that it has when the packets of one device
// go through it. TestCosts measures it.
const (
	saCost         = 5 << 10
	compressorCost = 1 << 20 // of an outbound comp SA
	erouteCost     = 1 << 9
	deviceCost     = batchSize * bufferSize
)

// bufferSize is the length in bytes of a buffer for the largest packet.
const bufferSize = packet.Headroom + math.MaxUint16 + packet.Tailroom

// usualDevices are those that a daemon makes at its start.
const usualDevices = 2

// BaseMemory is what an engine takes with two devices and nothing else, in bytes: the
// buffers of its workers, most of which are only touched by large packets, and what a
// program takes that does nothing.
const BaseMemory = (1+usualDevices)*deviceCost + 4<<20

func costOf(sa *sadb.SA) int64 {
	if sa.ID.Proto == klips.ProtoComp && sa.Dir.Sends() {
		return saCost + compressorCost
	}
	return saCost
}

// room returns ENOBUFS where so many bytes more would be above what the engine may
// have. Several that ask at once may all be let in.
func (e *Engine) room(more int64) error {
	if e.memory == 0 {
		return nil
	}
	used := e.saMemory.Load() + e.holds.memory.Load() + int64(e.routes.Len())*erouteCost +
		max(int64(e.numDevices.Load())-usualDevices, 0)*deviceCost
	if used+more > e.memory {
		return syscall.ENOBUFS
	}
	return nil
}

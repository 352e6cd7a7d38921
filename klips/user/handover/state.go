// Package handover is how one daemon gives all that it has to the next one: the SAs
// with their keys and numbers, eroutes, held packets, devices and settings, in a sealed
// file that is in memory only.
//
// # The format
//
// A file begins with the eight bytes of magic and the version. All numbers are 64 bits,
// little-endian; bytes, lists and texts have their length in front. What there is and
// in which order is told once, by the code methods in fields.go, for both directions.
// A program writes one version and reads that and older ones. Daemons that do not
// understand each other begin anew, which the version is there to tell. Whoever changes
// a code method counts it up, and leaves out what is new in it where the version that
// is read does not have it.
package handover

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// A State is all that there is of an engine. Times are nanoseconds of its clock.
type State struct {
	Now     int64 // when the last packet was through
	Debug   klips.Debug
	Knobs   []klips.Knob
	SAs     sadb.SavedDB
	Paths   []Path
	Eroutes []Eroute // the oldest first
	Holds   []Hold   // the oldest first
	// Expired and Evicted count the holds that were given up.
	Expired, Evicted uint64
	Devices          []Device
	Drops            drop.Counts // of packets that belong to no device
}

// Clear overwrites the keys.
func (s *State) Clear() { s.SAs.Clear() }

// An Eroute is one with what listings do not show.
type Eroute struct {
	klips.Eroute
	LastUse int64
}

// A Hold is what is kept for an eroute that waits to be replaced.
type Hold struct {
	Route       klips.Selector
	Since       int64
	Trap        klips.SPI // what made the eroute, 0: a command
	InPlace     bool      // it stands in the place of the trap
	First, Last *Packet   // may be nil
}

// A Packet was routed into a device.
type Packet struct {
	Device string
	Bytes  []byte
}

// A Path is how the packets of an outbound SA in UDP have left last.
type Path struct {
	ID     klips.SAID
	Device string
	Src    netip.Addr
}

// A Device is a virtual device.
type Device struct {
	Name         string
	Stats        klips.DeviceStats
	EverAttached bool
	Attached     bool
	AttMTU       int    // the MTU of the physical device when it was attached, in bytes
	Wanted       string // the physical device that it is, or is to be, attached to
	WantedIndex  int    // that device's index, 0 where it is not known
	Drops        drop.Counts
}

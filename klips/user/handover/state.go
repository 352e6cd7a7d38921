// Package handover passes a daemon's whole state to the next one: the SAs with their
// keys and numbers, eroutes, held packets, devices and settings, in a sealed file in
// memory.
//
// # The format
//
// A file begins with the eight bytes of magic and the version. All numbers are 64 bits,
// little-endian; bytes, lists and texts follow their length. The code methods in
// fields.go define the fields and their order, for reading and for writing. A program
// writes one version and reads that and older ones. If it does not know a file's
// version, the new daemon starts with an empty state. A change of a code method must
// increase the version, and must skip new fields when an older version is read.
package handover

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// A State is the whole state of an engine. Times are nanoseconds of its clock.
type State struct {
	Now     int64 // when the last packet had been processed
	Debug   klips.Debug
	Knobs   []klips.Knob
	SAs     sadb.SavedDB
	Paths   []Path
	Eroutes []Eroute // the oldest first
	Holds   []Hold   // the oldest first
	// Expired and Evicted count the holds that were dropped.
	Expired, Evicted uint64
	Devices          []Device
	Drops            drop.Counts // of packets that belong to no device
	PathMTUs         []PathMTU
	Heard            []Heard
}

// Clear overwrites the keys.
func (s *State) Clear() { s.SAs.Clear() }

// An Eroute is an eroute with the fields that listings do not have.
type Eroute struct {
	klips.Eroute
	LastUse int64
}

// A Hold holds packets for an eroute that waits to be replaced.
type Hold struct {
	Route       klips.Selector
	Since       int64
	Trap        klips.SPI // the kind of trap that made the eroute, 0: a command
	InPlace     bool      // it replaces the trap
	First, Last *Packet   // may be nil
}

// A Packet was routed into a device.
type Packet struct {
	Device string
	Bytes  []byte
}

// A Path is how the last packets of an outbound SA in UDP have left.
type Path struct {
	ID     klips.SAID
	Device string
	Src    netip.Addr
}

// A PathMTU is how long packets of an outbound SA may be on their path.
type PathMTU struct {
	ID    klips.SAID
	MTU   int   // in bytes, with all headers
	Until int64 // when longer packets are tried again
}

// A Heard is where the newest packets of an inbound SA in UDP came from, if not from the
// address and port of the SA.
type Heard struct {
	ID   klips.SAID
	Addr netip.Addr
	Port uint16
}

// A Device is a virtual device.
type Device struct {
	Name         string
	Stats        klips.DeviceStats
	EverAttached bool
	Attached     bool
	AttMTU       int    // the MTU of the physical device when it was attached, in bytes
	Wanted       string // the physical device that it is attached to, or will be
	WantedIndex  int    // that device's index, 0 if unknown
	Drops        drop.Counts
	ChosenMTU    int  // the MTU that it was given by the engine, in bytes; 0: none
	Direct       bool // it sends past the kernel's IP output
}

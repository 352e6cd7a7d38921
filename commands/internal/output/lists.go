package output

import (
	"time"

	"github.com/klips-go/ipsec/klips"
)

// The fields at the beginning of every list.
type Head struct {
	// The version of this description. It changes when a field is removed or gets
	// another meaning. New fields do not change it.
	Schema int `json:"schema"`
	// The stack that was asked: user, xfrm or klips. Left out if there is none.
	Stack string `json:"stack,omitempty"`
}

func (h Head) head() Head { return h }

// NewHead returns the head of a list from a stack; the name is empty if there is no
// stack.
func NewHead(stack string) Head { return Head{Schema, stack} }

// The security associations, in the order of the listing.
type SPIList struct {
	Head
	// The security associations.
	SAs []SA `json:"spi"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// NewSPIList lists the SAs of a snapshot.
func NewSPIList(stack string, s *klips.Snapshot) List {
	return SPIList{NewHead(stack), SAs(s.SAs), UnreadLines(s.Unread)}
}

// The groups. Unlike the listing for people, which has a line for each security
// association, it has one object for each group.
type SPIGRPList struct {
	Head
	// The groups.
	Groups []Group `json:"spigrp"`
	// Security associations with wrong links.
	LinkFaults []LinkFault `json:"link_faults,omitempty"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// NewSPIGRPList lists the groups of the SAs of a snapshot.
func NewSPIGRPList(stack string, s *klips.Snapshot) List {
	return SPIGRPList{NewHead(stack), Groups(s.SAs), LinkFaults(klips.CheckLinks(s.SAs)), UnreadLines(s.Unread)}
}

// The eroutes, in the order of the listing.
type ErouteList struct {
	Head
	// The eroutes.
	Eroutes []Eroute `json:"eroute"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// NewErouteList lists the eroutes of a snapshot.
func NewErouteList(stack string, s *klips.Snapshot) List {
	return ErouteList{NewHead(stack), Eroutes(s.Eroutes), UnreadLines(s.Unread)}
}

// The security associations and eroutes of one end, as configuration.
type ExportList struct {
	Head
	// Whether it is the other end's half (--peer).
	Peer bool `json:"peer"`
	// The groups. A security association without a group is a group of one. The inbound ones
	// come first.
	Groups []ExportedGroup `json:"export"`
	// The eroutes.
	Eroutes []ExportedEroute `json:"eroutes"`
	// The virtual devices that are attached.
	Devices []ExportedDevice `json:"devices"`
	// What is missing.
	Notes []ExportNote `json:"notes,omitempty"`
}

// The virtual devices, by number.
type TncfgList struct {
	Head
	// The virtual devices.
	Devices []Device `json:"tncfg"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// NewTncfgList lists the devices of a snapshot.
func NewTncfgList(stack string, s *klips.Snapshot) List {
	return TncfgList{NewHead(stack), Devices(s.Devices), UnreadLines(s.Unread)}
}

// The debug masks of all areas, including those that the listing for people does not
// have.
type KlipsdebugList struct {
	Head
	// The areas.
	Areas []DebugArea `json:"klipsdebug"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// NewKlipsdebugList lists the debug masks of a snapshot.
func NewKlipsdebugList(stack string, s *klips.Snapshot) List {
	return KlipsdebugList{NewHead(stack), DebugAreas(s.Debug), UnreadLines(s.Unread)}
}

// Everything at once: the same objects as in the other lists, and the routes of the
// host.
type LookList struct {
	Head
	// The name of the host.
	Host string `json:"host"`
	// The time of the reading, in the form of RFC 3339.
	Time time.Time `json:"time"`
	// The security associations.
	SAs []SA `json:"sas"`
	// Their groups.
	Groups []Group `json:"groups"`
	// The eroutes.
	Eroutes []Eroute `json:"eroutes"`
	// The virtual devices.
	Devices []Device `json:"devices"`
	// The routes of the host's main table.
	Routes []Route `json:"routes"`
	// Dropped packets that belong to no device, by reason. See ipsec_look(8) for the
	// reasons.
	Drops map[string]uint64 `json:"drops,omitempty"`
	// Objects that other programs have made in the kernel, in words. Stack xfrm only.
	Foreign []string `json:"foreign,omitempty"`
	// Security associations with wrong links.
	LinkFaults []LinkFault `json:"link_faults,omitempty"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// The state of the stack. The array has one object.
type SetupList struct {
	Head
	// The state.
	Status []Status `json:"setup"`
	// Security associations with wrong links.
	LinkFaults []LinkFault `json:"link_faults,omitempty"`
	// Lines of the tables that cannot be read.
	Unread []UnreadLine `json:"unread,omitempty"`
}

// The connections of configuration files, and those that were made from files that do not
// have them any more.
type StatusList struct {
	Head
	// The connections, in the order of their names.
	Connections []Connection `json:"status"`
}

// The versions of the program and of the stack, in this order.
type VersionList struct {
	Head
	// The program and the stack.
	Components []Component `json:"version"`
}

// What happens to a packet. The array has one object.
type TraceList struct {
	Head
	// The answer.
	Answers []Trace `json:"trace"`
}

// The reasons for which packets were dropped, the newest packet first.
type WhyList struct {
	Head
	// The reasons. Empty if two ends are compared.
	Reasons []Why `json:"why"`
	// The host of the other end, if two ends are compared.
	Peer string `json:"peer,omitempty"`
	// What does not fit together.
	Differences []EndDifference `json:"differences,omitempty"`
}

// An event. Each event is an object on a line of its own, whose array has one object.
type MonitorList struct {
	Head
	// The event.
	Events []Event `json:"monitor"`
}

// The held UDP ports. This is printed when all are held; the command then goes on until
// it is interrupted.
type NattList struct {
	Head
	// The ports, in the order of the command line.
	Ports []Port `json:"natt"`
}

// The algorithms: first ciphers, then authentication, then compression.
type AlgsList struct {
	Head
	// The algorithms.
	Algorithms []Algorithm `json:"algs"`
	// The reason why there is no stack.
	Problem string `json:"problem,omitempty"`
}

// The tests of the program by itself.
type SelftestList struct {
	Head
	// What was tested.
	Tests []SelfTest `json:"selftest"`
}

// How long packets to a destination may be. The array has one object.
type MtuList struct {
	Head
	// The lengths.
	Paths []MTU `json:"mtu"`
}

// The defaults. The array has one object.
type ShowdefaultsList struct {
	Head
	// The defaults.
	Defaults []Defaults `json:"showdefaults"`
}

// The checks of the host, in the order in which they were made.
type VerifyList struct {
	Head
	// The checks.
	Checks []Verification `json:"verify"`
}

// What can be compared with the other end. The array has one object. It is also the last part
// of the text that ipsec barf prints without --json.
type BarfList struct {
	Head
	// This end.
	Ends []Barf `json:"barf"`
}

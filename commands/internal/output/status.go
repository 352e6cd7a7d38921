package output

import "github.com/klips-go/ipsec/klips/guard"

// The state of a stack. Where it does not run, the only other fields are
// run_directory, devices_left and reason.
type Status struct {
	// Whether it runs, or for a stack of a kernel: whether it is there.
	Running bool `json:"running"`
	// Why it is not there, for a stack of a kernel.
	Reason string `json:"reason,omitempty"`
	// The process of the daemon. Stack user only.
	PID int `json:"pid,omitempty"`
	// The version of the stack.
	Version string `json:"version,omitempty"`
	// The directory of the daemon's socket and log. Stack user only.
	RunDirectory string `json:"run_directory,omitempty"`
	// Seconds since the daemon was started. Stack user only.
	UptimeSeconds *int64 `json:"uptime_seconds,omitempty"`
	// How many security associations there are.
	SACount *int `json:"sa_count,omitempty"`
	// How many eroutes there are.
	ErouteCount *int `json:"eroute_count,omitempty"`
	// The virtual devices.
	Devices []Device `json:"devices,omitzero"`
	// The names of the devices that a daemon has left, which drop what is routed into
	// them. Only where stack user does not run.
	DevicesLeft []string `json:"devices_left,omitzero"`
	// The knobs, with values as ipsec setup set takes them.
	Knobs map[string]string `json:"knobs,omitempty"`
	// What is kept for eroutes that wait to be replaced. Stack user only.
	Holds *Holds `json:"holds,omitempty"`
	// Packets of guarded flows that were dropped because they were in clear. Left out
	// where no flow is guarded.
	Unprotected *Unprotected `json:"unprotected,omitempty"`
	// Packets that belong to no device and went no further, by reason. See ipsec_look(8)
	// for the reasons.
	Drops map[string]uint64 `json:"drops,omitempty"`
	// Where it is kept how far the sequence numbers of keys have come.
	SequenceMarks *SequenceMarks `json:"sequence_marks,omitempty"`
	// Messages for key daemons and pf_key commands that did not read them. Left out
	// where it is 0.
	UnreadMessages uint64 `json:"unread_messages,omitempty"`
	// What the stack can do and what it lacks, where that depends on the kernel.
	Abilities []Ability `json:"abilities,omitempty"`
	// Why that is not known.
	AbilitiesProblem string `json:"abilities_problem,omitempty"`
}

// Packets that are kept for eroutes that wait to be replaced.
type Holds struct {
	// Eroutes that packets are kept for.
	Held int `json:"held"`
	// How many of these there can be.
	Max int `json:"max"`
	// Those that were given up because nothing took their place in time.
	Expired uint64 `json:"expired"`
	// Those that were given up for newer ones.
	Evicted uint64 `json:"evicted"`
}

// Packets of guarded flows that were dropped because they were in clear.
type Unprotected struct {
	// Those that were about to leave.
	Sent uint64 `json:"sent"`
	// Those that arrived.
	Received uint64 `json:"received"`
}

// NewUnprotected returns nil for nil.
func NewUnprotected(c *guard.Counters) *Unprotected {
	if c == nil {
		return nil
	}
	return &Unprotected{c.Out, c.In}
}

// How far the sequence numbers of keys have come.
type SequenceMarks struct {
	// The directory. Left out where nothing is kept because no directory was named.
	Directory string `json:"directory,omitempty"`
	// Why nothing can be kept at present.
	Problem string `json:"problem,omitempty"`
	// How many keys are remembered.
	Keys int `json:"keys"`
	// Security associations that have received packets since that was kept.
	Behind int `json:"behind"`
}

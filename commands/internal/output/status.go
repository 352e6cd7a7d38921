package output

import "github.com/klips-go/ipsec/klips/guard"

// The state of a stack. If it does not run, the only other fields are run_directory,
// devices_left and reason.
type Status struct {
	// Whether it runs; for a kernel's stack, whether it is available.
	Running bool `json:"running"`
	// The reason why a kernel's stack is not available.
	Reason string `json:"reason,omitempty"`
	// The process of the daemon. Stack user only.
	PID int `json:"pid,omitempty"`
	// The version of the stack.
	Version string `json:"version,omitempty"`
	// The directory of the daemon's socket and log. Stack user only.
	RunDirectory string `json:"run_directory,omitempty"`
	// Seconds since the daemon was started. Stack user only.
	UptimeSeconds *int64 `json:"uptime_seconds,omitempty"`
	// The number of security associations.
	SACount *int `json:"sa_count,omitempty"`
	// The number of eroutes.
	ErouteCount *int `json:"eroute_count,omitempty"`
	// The virtual devices.
	Devices []Device `json:"devices,omitzero"`
	// The names of devices that a daemon has left. They drop packets that are routed
	// into them. Only if stack user does not run.
	DevicesLeft []string `json:"devices_left,omitzero"`
	// The knobs, with values in the form of ipsec setup set.
	Knobs map[string]string `json:"knobs,omitempty"`
	// Packets that are held for eroutes. Stack user only.
	Holds *Holds `json:"holds,omitempty"`
	// Packets that were dropped because they were in clear. Left out if no flow is
	// guarded and no ICMP error was dropped.
	Unprotected *Unprotected `json:"unprotected,omitempty"`
	// Dropped packets that belong to no device, by reason. See ipsec_look(8) for the
	// reasons.
	Drops map[string]uint64 `json:"drops,omitempty"`
	// Where the sequence numbers of keys are stored.
	SequenceMarks *SequenceMarks `json:"sequence_marks,omitempty"`
	// What the daemon's process may do. Stack user only.
	Process *Process `json:"process,omitempty"`
	// Messages for key daemons and pf_key commands that did not read them. Left out
	// where it is 0.
	UnreadMessages uint64 `json:"unread_messages,omitempty"`
	// The abilities that the stack has and lacks, if they depend on the kernel.
	Abilities []Ability `json:"abilities,omitempty"`
	// The reason why the abilities are not known.
	AbilitiesProblem string `json:"abilities_problem,omitempty"`
}

// What a daemon's process may do. See ipsec_setup(8) for the names of rights.
type Process struct {
	// Its user.
	UserID int `json:"user_id"`
	// The name of its user. Left out if it has none.
	User string `json:"user,omitempty"`
	// The capabilities that it can use, by their names in capabilities(7), in lower case
	// and without CAP_.
	Capabilities []string `json:"capabilities"`
	// The rights that it has given up.
	GivenUp []string `json:"given_up"`
	// The rights that it could not give up.
	NotGivenUp []Refusal `json:"not_given_up"`
}

// A right that could not be given up.
type Refusal struct {
	// The right.
	Right string `json:"right"`
	// The error of the system, or what is missing.
	Reason string `json:"reason"`
}

// Packets that are held for eroutes.
type Holds struct {
	// Eroutes with held packets.
	Held int `json:"held"`
	// The largest number of such eroutes.
	Max int `json:"max"`
	// Eroutes that were given up because they were not replaced in time.
	Expired uint64 `json:"expired"`
	// Eroutes that were given up to make room for newer ones.
	Evicted uint64 `json:"evicted"`
}

// Packets that were dropped because they were in clear.
type Unprotected struct {
	// Packets of guarded flows that would have left.
	Sent uint64 `json:"sent"`
	// Packets of guarded flows that arrived.
	Received uint64 `json:"received"`
	// ICMP errors that would have left and quote a packet that came protected.
	ICMPErrors uint64 `json:"icmp_errors"`
}

// NewUnprotected returns nil for nil.
func NewUnprotected(c *guard.Counters) *Unprotected {
	if c == nil {
		return nil
	}
	return &Unprotected{c.Out, c.In, c.Quotes}
}

// The stored sequence numbers of keys.
type SequenceMarks struct {
	// The directory. Left out if no directory is configured.
	Directory string `json:"directory,omitempty"`
	// The reason why nothing can be stored at present.
	Problem string `json:"problem,omitempty"`
	// The number of stored keys.
	Keys int `json:"keys"`
	// Security associations that have received packets since the last store.
	Behind int `json:"behind"`
}
